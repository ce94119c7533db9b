# What every release of recall stands on. Built once; a release adds one small layer.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
      curl gunicorn python3-flask python3-flask-migrate python3-gunicorn \
      python3-prometheus-client python3-psycopg2 python3-redis python3-sqlalchemy \
 && rm -rf /var/lib/apt/lists/*
# The group owns the data too: files in it stay writable for whoever runs with that group.
RUN groupadd --gid 10001 recall \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin recall \
 && install -d -o 10001 -g 10001 -m 2770 /data
