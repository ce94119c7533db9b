# The suite as an image, for servers without Python. pip may not reach an index from inside a build, so the context
# is a folder of wheels, made on any machine with Python 3.11:
#
#   grep -o '^[^ ]*==[^ ]*' constraints.txt > pins.txt
#   python3.11 -m pip wheel --wheel-dir wheels --constraint pins.txt .
#   docker build --tag pytest-cutover --file Dockerfile wheels
#
# docs/dev/deploy_server.md says how to run it. `docker` and its Compose plugin come from the server: they fit its
# engine, and the image stays small.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv git tzdata ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY *.whl /wheels/
RUN python3 -m venv /opt/cutover \
    && /opt/cutover/bin/pip install --no-cache-dir --no-index --find-links /wheels pytest-cutover \
    && rm -rf /wheels \
    && ln -s /opt/cutover/lib/python3.11/site-packages/cutover/shell/suite.sh /usr/local/lib/suite.sh
ENV PATH=/opt/cutover/bin:/usr/local/bin:/usr/bin:/bin
ENTRYPOINT ["sh", "/usr/local/lib/suite.sh"]
CMD ["pytest", "--version"]
