# The tap and nothing else: docker build --tag tap-mixpanel-stream . (or podman build)
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY tap_mixpanel_stream tap_mixpanel_stream
RUN python -m venv /opt/tap && /opt/tap/bin/pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.13-slim
COPY --from=build /opt/tap /opt/tap
ENV PATH=/opt/tap/bin:$PATH
USER 10001:10001
# Where a configuration, a catalog and a state are mounted.
WORKDIR /pipeline
ENTRYPOINT ["tap-mixpanel-stream"]
