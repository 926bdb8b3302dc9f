# syntax=docker/dockerfile:1
#
#   docker build -t chat-proxy .
#   docker build -t chat-proxy:full --build-arg LOCK=requirements.lock .           with litellm, too
#   docker build --secret id=pip.conf,src=pip.conf …                               with your own package index
#
# Both, for amd64 and arm64, with a list of what is in them (SBOM): docker buildx bake. The digest makes a build the same
# next year; a newer base is a new digest here.
ARG BASE=python:3.13-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285

FROM ${BASE} AS build
ARG LOCK=requirements-image.lock
ENV PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src

# Two environments: one that builds and has pip, and the one that ships and has only what the lock names.
COPY requirements*.lock ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv /build \
 && python3 -m venv --without-pip /venv \
 && /build/bin/pip install --require-hashes --only-binary :all: --no-deps -r requirements-build.lock \
 && /build/bin/pip --python /venv/bin/python install --require-hashes --only-binary :all: --no-deps -r "${LOCK}"

COPY pyproject.toml README.md LICENSE ./
COPY proxy ./proxy
RUN /build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /build/bin/pip --python /venv/bin/python install --no-index --no-deps /wheels/*.whl

FROM ${BASE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="chat-proxy" \
      org.opencontainers.image.description="A streaming proxy between any chat frontend and any model" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"

COPY --from=build /venv /venv
COPY deploy/healthcheck.py /usr/local/lib/chat-proxy/healthcheck.py
COPY deploy/config.yaml /etc/chat-proxy/config.yaml

# Runs with a read-only root: byte code is made at build time, and the little that libraries write goes to a tmpfs /tmp.
# What is to be kept, such as the ledger of who used what, goes to a volume at /var/lib/chat-proxy.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/chat-proxy
ENV PATH=/venv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/chat-proxy
EXPOSE 8080
# SIGTERM drains. The image's own program is PID 1 and gets it, for there is no shell in between.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-I", "/usr/local/lib/chat-proxy/healthcheck.py"]
ENTRYPOINT ["chat-proxy"]
CMD ["serve", "-c", "/etc/chat-proxy/config.yaml", "--host", "0.0.0.0", "--port", "8080"]
