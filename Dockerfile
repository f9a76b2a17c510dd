# syntax=docker/dockerfile:1
# One binary in a small image that runs as nobody in particular. The toolchain is that of rust-toolchain.toml.

FROM rust:1.95.0-bookworm AS build
# What is pinned in rust-toolchain.toml has components that a build does not need.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
# What the image calls its build: docker build --build-arg SOUK_BUILD=$(git rev-parse --short=12 HEAD)
ARG SOUK_BUILD=image
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --features kafka-tls && install -D target/release/souk /out/souk

FROM debian:bookworm-slim
# A pinned version is gone from the archive as soon as it has a security fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/souk --create-home souk
COPY --from=build /out/souk /usr/local/bin/souk

USER 10001
WORKDIR /var/lib/souk
ENV SOUK__DATA_DIR=/var/lib/souk/data \
    SOUK__GATEWAY__LISTEN=0.0.0.0:4000 \
    SOUK__ADMIN__LISTEN=0.0.0.0:9200
VOLUME /var/lib/souk
EXPOSE 4000 9200
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9200 && printf 'GET /health/ready HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["souk"]
