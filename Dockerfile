# One image for every process of the fleet; the command says which one it becomes.
FROM python:3.12-slim AS build
COPY docker/venv.sh requirements.lock /tmp/
RUN sh /tmp/venv.sh /venv /tmp/requirements.lock
WORKDIR /app
COPY pipeline pipeline
COPY config config
COPY workers workers
# A read-only image cannot keep what Python compiles at a start, so it is compiled now.
RUN python -m compileall -q --invalidation-mode unchecked-hash pipeline config workers

FROM python:3.12-slim
# A volume that is mounted while it is empty takes owner and content of the folder it is mounted over, at the making of
# each container: so every such folder is empty and of one owner, and none lies in another.
RUN groupadd --gid 10001 fleet \
 && useradd --uid 10001 --gid fleet --no-create-home --shell /usr/sbin/nologin fleet \
 && for folder in /data /secrets /accounts/redis /accounts/collector /accounts/router /accounts/scheduler \
      /accounts/worker /accounts/watcher /accounts/dashboard /accounts/operator /accounts/control /accounts/admin; do \
      install --directory --owner fleet --group fleet "$folder"; done \
 && printf '#!/bin/sh\nexec python -m workers.cli "$@"\n' > /usr/local/bin/fleet \
 && chmod 0755 /usr/local/bin/fleet
COPY --from=build /venv /venv
COPY --from=build /app /app
# Our packages have common names: /app comes first on the path, so no other distribution's `config` can win.
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FLEET_DATA_DIR=/data
WORKDIR /app
USER 10001:10001
# Every process ends in good order on SIGTERM; a worker finishes its job first.
STOPSIGNAL SIGTERM
ENTRYPOINT ["fleet"]
CMD ["--help"]
