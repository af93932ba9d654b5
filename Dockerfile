# The whole image has the C compiler that the data path is compiled with.
FROM python:3.13 AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/build && python -m venv /opt/tidegate
COPY requirements/ requirements/
# The build backend has a lock too, so nothing enters the image without a hash. Nothing is resolved: a lock lists
# everything, which `pip check` confirms. What compiles the data path reads the types of what that imports.
RUN /opt/build/bin/pip install --no-deps --require-hashes -r requirements/build.txt -r requirements/runtime.txt \
 && /opt/build/bin/pip check
RUN /opt/tidegate/bin/pip install --no-deps --require-hashes -r requirements/runtime.txt \
 && /opt/tidegate/bin/pip check
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY gateway/ gateway/
# Compiled twice: in between, a short demo is served for a profile.
RUN TIDEGATE_PGO=1 /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/tidegate/bin/pip install --no-deps --no-index /wheels/*.whl \
 && /opt/tidegate/bin/python -c 'from gateway import native; raise SystemExit(native.why_pure() or 0)'

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/tidegate --create-home tidegate
COPY --from=build /opt/tidegate /opt/tidegate
ENV PATH=/opt/tidegate/bin:$PATH PYTHONUNBUFFERED=1
# By number, so that Kubernetes can see that it is not root.
USER 10001
# Whatever the gateway keeps over a restart lies here.
WORKDIR /var/lib/tidegate
VOLUME /var/lib/tidegate
EXPOSE 8080 9000
# Whether this process answers. `tidegate status` fails for a sick engine too, which no restart here would cure.
# A gateway with TLS or with --port instead of TIDEGATE_PORT needs another check, as the simulated engine does.
HEALTHCHECK --interval=10s --timeout=10s --start-period=15s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('TIDEGATE_PORT', '8080') + '/health', timeout=5)"]
ENTRYPOINT ["tidegate"]
