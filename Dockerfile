# An image with only the tap: docker build --tag tap-mixpanel-stream . (or podman build)
FROM python:3.13-slim@sha256:6771159cd4fa5d9bba1258caf0b82e6b73458c694d178ad97c5e925c2d0e1a91 AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY tap_mixpanel_stream tap_mixpanel_stream
RUN python -m venv /opt/tap && /opt/tap/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.13-slim@sha256:6771159cd4fa5d9bba1258caf0b82e6b73458c694d178ad97c5e925c2d0e1a91
COPY --from=build /opt/tap /opt/tap
ENV PATH=/opt/tap/bin:$PATH
USER 10001:10001
# Mount the configuration, catalog and state here.
WORKDIR /pipeline
ENTRYPOINT ["tap-mixpanel-stream"]
