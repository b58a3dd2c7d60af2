FROM python:3.11-slim-bookworm AS build
# pip takes torch from its default index, whose Linux build carries CUDA (gigabytes). For a small CPU image, name an
# index of CPU builds here; the lock pins the same version either way.
ARG PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/xent/.venv
COPY requirements-server.lock /opt/xent/
RUN /opt/xent/.venv/bin/pip install -r /opt/xent/requirements-server.lock
COPY xentcore /opt/xent/xentcore
# The passes are compiled here, for the processor of the machine that builds; on another one the eager passes serve.
RUN cd /opt/xent && .venv/bin/python -m xentcore.kernels build --root /opt/xent/kernels
COPY service /opt/xent/service
# Bytecode is made here, since nothing can be written beside the code later; hashes, since copies change times.
RUN /opt/xent/.venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/xent/xentcore /opt/xent/service

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin xent \
    && install --directory --owner=xent --group=xent /data
COPY --from=build /opt/xent /opt/xent
WORKDIR /opt/xent
ENV PATH=/opt/xent/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XENT_HOST=0.0.0.0 \
    XENT_PORT=8000 \
    XENT_DATA_DIR=/data \
    XENT_KERNELS=built \
    XENT_KERNELS_DIR=/opt/xent/kernels
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
CMD ["python", "-m", "service"]
