# docker build -t jaxrt .                             the server, without TensorFlow
# docker build --target convert -t jaxrt:convert .    with it: compiles, and serves SavedModels
#
# Run as TensorFlow Serving's image: models in /models, MODEL_NAME, flags at the end.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY . .
RUN python -m venv /opt/jaxrt && /opt/jaxrt/bin/pip install ".[images,gcs,s3]"

FROM build AS build-convert
RUN /opt/jaxrt/bin/pip install ".[convert,images,gcs,s3]"

FROM python:${PYTHON}-slim AS base
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin jaxrt \
 && install --directory --owner jaxrt /models /var/cache/jaxrt
ENV PATH=/opt/jaxrt/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/var/cache \
    MODEL_NAME=model \
    MODEL_BASE_PATH=/models
USER 10001
WORKDIR /models
EXPOSE 8500 8501
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/readyz', timeout=4)"]
ENTRYPOINT ["jaxrt", "serve", "--port=8500", "--rest_api_port=8501"]

FROM base AS convert
COPY --from=build-convert /opt/jaxrt /opt/jaxrt

# The last one is built when nobody names another.
FROM base AS serve
COPY --from=build /opt/jaxrt /opt/jaxrt
