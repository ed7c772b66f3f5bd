# One node, with the PostgreSQL that storage.postgres_url names, or the embedded one in /data. compose.yaml has the rest.
#
#   docker build -t tchat .
#   docker run --init -v tchat:/data -v ./production.toml:/etc/tchat/config.toml:ro -p 7420:7420 tchat
#
# A container must listen on all addresses to be reached, which only production mode does, and production mode wants a
# sender for sign-in codes: `tchat doctor` and `tchat config` in the container say what is missing.
FROM python:3.13-slim AS build
WORKDIR /build
COPY pyproject.toml requirements.lock ./
# What runs, without what only tests: names from pyproject.toml, versions and hashes from the lock file. setuptools, which
# makes the package, stays in this stage.
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > run.txt \
    && echo setuptools > make.txt \
    && python -m venv --without-pip /opt/tchat \
    && pip --python /opt/tchat/bin/python install --no-cache-dir --require-hashes -r run.txt -c requirements.lock \
    && pip install --no-cache-dir --require-hashes -r make.txt -c requirements.lock
COPY README.md ./
COPY loadtest loadtest
COPY protocol protocol
COPY server server
COPY storage storage
COPY tchat tchat
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir . . \
    && pip --python /opt/tchat/bin/python install --no-cache-dir --no-deps ./*.whl

FROM python:3.13-slim
RUN useradd --create-home --uid 10001 tchat && install -d -o tchat -g tchat -m 700 /data
COPY --from=build /opt/tchat /opt/tchat
WORKDIR /etc/tchat
USER 10001
ENV PATH=/opt/tchat/bin:$PATH TCHAT__SERVER__DATA_DIR=/data TCHAT__SERVER__HOST=0.0.0.0
VOLUME /data
EXPOSE 7420
# SIGTERM drains: give it server.drain_timeout_s and a little more before SIGKILL.
STOPSIGNAL SIGTERM
# Whether the process works, not whether it takes clients: that is /readyz, for the proxy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7421/healthz', timeout=4)"]
ENTRYPOINT ["tchat"]
CMD ["serve"]
