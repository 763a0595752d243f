# Setia as one image: `crm serve` alone brings its own Postgres; with CRM_DATABASE_URL it uses yours.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/setia
WORKDIR /src
COPY requirements.lock ./
RUN /opt/setia/bin/pip install --no-deps --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY alembic alembic
COPY crm crm
RUN /opt/setia/bin/pip install --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/setia --shell /usr/sbin/nologin setia
COPY --from=build /opt/setia /opt/setia
ENV PATH=/opt/setia/bin:$PATH PYTHONUNBUFFERED=1 CRM_HOST=0.0.0.0 CRM_DATA_DIR=/var/lib/setia/data
USER setia
WORKDIR /var/lib/setia
VOLUME /var/lib/setia
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('CRM_PORT') or 8000}/health/live\", timeout=4)"]
CMD ["crm", "serve"]
