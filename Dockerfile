# appfn's one image: operator, shim, agent, trigger. `docker build -t appfn/appfn:0.1.0 .`
#
# Dependencies and our own code are stages and layers of their own: an edit of the code brings a small layer only.
# Everything is compiled here, as the image runs read-only; unchecked, as time stamps don't survive all builders.

FROM debian:trixie-slim AS dependencies
RUN apt-get update \
 && apt-get install --yes --no-install-recommends binutils ca-certificates python3-pip python3-venv \
 && rm -rf /var/lib/apt/lists/*
# A mirror of PyPI, where one is to be used; what comes from it must have the hashes of the lock file.
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST
ARG PIP_CERT=/etc/ssl/certs/ca-certificates.crt
COPY requirements.lock /
# strip: wheels bring debug symbols, a tenth of the image.
RUN python3 -m venv --without-pip /opt/appfn \
 && pip --python /opt/appfn/bin/python3 install --no-cache-dir --no-compile --only-binary :all: --require-hashes \
    --requirement /requirements.lock \
 && find /opt/appfn -name '*.so' -exec strip --strip-unneeded {} + \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/appfn/lib

FROM dependencies AS code
COPY operator/appfn /opt/appfn/lib/python3.13/site-packages/appfn
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/appfn/lib/python3.13/site-packages/appfn

FROM debian:trixie-slim
# The user has an entry of its own because ssh refuses to run without one.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates git openssh-client python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
 && groupadd --gid 65532 appfn \
 && useradd --uid 65532 --gid 65532 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin appfn
COPY --from=dependencies /opt/appfn /opt/appfn
COPY --from=code /opt/appfn/lib/python3.13/site-packages/appfn /opt/appfn/lib/python3.13/site-packages/appfn
# PYTHONSAFEPATH: `-m` would otherwise import from the working directory first, whatever lies there.
ENV PATH=/opt/appfn/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["/opt/appfn/bin/python3", "-m", "appfn"]
