# One image for every process of the fleet; the command says which one it becomes.
FROM python:3.12-slim AS build
COPY requirements.lock /tmp/requirements.lock
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --requirement /tmp/requirements.lock

FROM python:3.12-slim
RUN groupadd --gid 10001 fleet \
 && useradd --uid 10001 --gid fleet --no-create-home --shell /usr/sbin/nologin fleet \
 && install --directory --owner fleet --group fleet /app /data \
 && printf '#!/bin/sh\nexec python -m workers.cli "$@"\n' > /usr/local/bin/fleet \
 && chmod 0755 /usr/local/bin/fleet
COPY --from=build /venv /venv
# Our packages have common names: /app comes first on the path, so no other distribution's `config` can win.
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FLEET_DATA_DIR=/data
WORKDIR /app
COPY pipeline pipeline
COPY config config
COPY workers workers
USER fleet
# Every process ends in good order on SIGTERM; a worker finishes its job first.
STOPSIGNAL SIGTERM
ENTRYPOINT ["fleet"]
CMD ["--help"]
