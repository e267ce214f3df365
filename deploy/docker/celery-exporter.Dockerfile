# celery-exporter (MIT, github.com/danihodovic/celery-exporter), from its package: the broker's address, which holds a
# password, comes from a file instead of the command line.
FROM python:3.11.14-slim-bookworm
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY deploy/docker/celery-exporter.txt /tmp/requirements.txt
RUN pip install --no-deps --requirement /tmp/requirements.txt
COPY deploy/docker/celery_exporter.py deploy/docker/probe.py /usr/local/lib/sightline/
USER 10001:10001
EXPOSE 9808
ENTRYPOINT ["python", "/usr/local/lib/sightline/celery_exporter.py"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
    CMD ["python", "-I", "/usr/local/lib/sightline/probe.py", "http", "http://127.0.0.1:9808/health"]
