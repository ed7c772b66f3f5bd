# One node, with the PostgreSQL that storage.postgres_url names, or the embedded one in /data.
#
#   docker build -t tchat .
#   docker run --init -v tchat:/data -p 7420:7420 -e TCHAT__SERVER__MODE=production ... tchat
#
# A container must listen on all addresses to be reached, which only production mode does, and production mode wants a
# sender for sign-in codes: `tchat doctor` and `tchat config` in the container say what is missing.
FROM python:3.13-slim

RUN useradd --create-home --uid 10001 tchat && install -d -o tchat -m 700 /data
WORKDIR /srv/tchat
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

USER tchat
ENV TCHAT__SERVER__DATA_DIR=/data TCHAT__SERVER__HOST=0.0.0.0
VOLUME /data
EXPOSE 7420
# SIGTERM drains: give it server.drain_timeout_s and a little more before SIGKILL.
STOPSIGNAL SIGTERM
ENTRYPOINT ["tchat"]
CMD ["serve"]
