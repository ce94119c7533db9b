# The suite as an image, for servers without Python:
#
#   docker build --tag pytest-cutover .
#
# For a build that can be repeated, pin the base: --build-arg BASE=debian:bookworm-slim@sha256:...
# Where a build cannot reach a package index, any machine with Python 3.11 makes a folder of wheels for it:
#
#   python3.11 -m pip wheel --wheel-dir wheels --require-hashes --requirement requirements.txt
#   docker build --tag pytest-cutover --build-arg PIP_NO_INDEX=1 .
#
# docs/dev/deploy_server.md says how to run it. `docker` and its Compose plugin are mounted from the server: they fit
# its engine, and the image stays small.
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 git tzdata ca-certificates \
    && rm -rf /var/lib/apt/lists/*

FROM python AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
COPY . /src
WORKDIR /src
ARG PIP_NO_INDEX
ARG PIP_INDEX_URL
RUN python3 -m venv /opt/cutover \
    && /opt/cutover/bin/pip install --no-cache-dir --find-links wheels --require-hashes --requirement requirements.txt \
    && /opt/cutover/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && cp deploy/image/entrypoint.sh /opt/cutover/

FROM python
COPY --from=build /opt/cutover /opt/cutover
ENV PATH=/opt/cutover/bin:/usr/local/bin:/usr/bin:/bin
# A gate of a URL needs no rights. A release needs those of the engine's socket and of the state: see the document.
RUN echo cutover:x:10001:10001::/home/cutover:/bin/sh >> /etc/passwd \
    && install --directory --owner=10001 --group=10001 /home/cutover
USER 10001:10001
ENTRYPOINT ["sh", "/opt/cutover/entrypoint.sh"]
CMD ["pytest", "--version"]
