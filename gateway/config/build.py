"""Builds the frozen table from entries that are valid and agree with each other."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from gateway.config.schema import BackendEntry, ModelEntry, PoolEntry
from gateway.config.table import IMPLICIT_VERSION, BackendSpec, ModelSpec, PoolSpec, RouteTable, Timeouts, VersionSpec


def build_table(
    pools: Mapping[str, PoolEntry], models: Mapping[str, ModelEntry], sources: Iterable[str] = ()
) -> RouteTable:
    """The table, with pools and models in the order of their names, whichever files they came from."""
    pool_specs = {name: _pool(name, entry) for name, entry in pools.items()}
    pool_specs |= {
        name: PoolSpec(name, _backends(name, entry.backends)) for name, entry in models.items() if entry.backends
    }
    model_specs = {name: _model(name, entry) for name, entry in sorted(models.items())}
    names = model_specs | {alias: model for model in model_specs.values() for alias in model.aliases}
    return RouteTable(
        pools=MappingProxyType(dict(sorted(pool_specs.items()))),
        models=MappingProxyType(model_specs),
        names=MappingProxyType(names),
        sources=tuple(sources),
    )


def _pool(name: str, entry: PoolEntry) -> PoolSpec:
    return PoolSpec(name, _backends(name, entry.backends), entry.accelerator, entry.cost_per_hour)


def _backends(pool: str, entries: Iterable[BackendEntry]) -> tuple[BackendSpec, ...]:
    return tuple(
        BackendSpec(
            pool=pool,
            url=entry.url.url,
            host=entry.url.host,
            port=entry.url.port,
            tls=entry.url.scheme == "https",
            base_path=entry.url.base_path,
            max_concurrency=entry.max_concurrency,
            api_key=entry.api_key or entry.api_key_file,
        )
        for entry in entries
    )


def _model(name: str, entry: ModelEntry) -> ModelSpec:
    versions = _versions(name, entry)
    split = entry.split if entry.split is not None else dict.fromkeys(versions, 1.0)
    return ModelSpec(
        name=name,
        versions=MappingProxyType(versions),
        split=tuple((version, weight) for version, weight in split.items() if weight > 0),
        aliases=tuple(entry.aliases),
        timeouts=Timeouts(**entry.timeouts.model_dump(exclude_none=True)),
    )


def _versions(name: str, entry: ModelEntry) -> dict[str, VersionSpec]:
    if entry.versions is None:
        return {IMPLICIT_VERSION: VersionSpec(IMPLICIT_VERSION, (name,), entry.served_model or name)}
    return {
        version: VersionSpec(version, tuple(spec.pools), spec.served_model or name)
        for version, spec in entry.versions.items()
    }
