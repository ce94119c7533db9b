# The suite as an image, for servers without Python:
#
#   docker build --tag pytest-cutover .
#
# Where a build may not reach a package index, wheels come from a folder that any machine with Python 3.11 makes:
#
#   grep -o '^[^ ]*==[^ ]*' constraints.txt > pins.txt
#   python3.11 -m pip wheel --wheel-dir wheels --constraint pins.txt '.[vault]' hatchling
#   docker build --tag pytest-cutover --build-arg PIP_NO_INDEX=1 .
#
# docs/dev/deploy_server.md says how to run it. `docker` and its Compose plugin come from the server: they fit its
# engine, and the image stays small.
FROM debian:bookworm-slim AS python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 git tzdata ca-certificates \
    && rm -rf /var/lib/apt/lists/*

FROM python AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
COPY . /src
WORKDIR /src
ARG PIP_NO_INDEX
ARG PIP_INDEX_URL
RUN grep -o '^[^ ]*==[^ ]*' constraints.txt > pins.txt \
    && python3 -m venv /opt/cutover \
    && /opt/cutover/bin/pip install --no-cache-dir --find-links wheels --constraint pins.txt '.[vault]' \
    && ln -s "$(/opt/cutover/bin/python -I -c 'import cutover; print(cutover.__path__[0])')/shell/suite.sh" /opt/cutover/suite.sh

FROM python
COPY --from=build /opt/cutover /opt/cutover
ENV PATH=/opt/cutover/bin:/usr/local/bin:/usr/bin:/bin
ENTRYPOINT ["sh", "/opt/cutover/suite.sh"]
CMD ["pytest", "--version"]
