"""What `tidegate check --json` prints: what route files mean, for programs."""

from dataclasses import asdict
from typing import Any

from gateway.cli.check_capacity import budgets_as_json, capacity_as_json
from gateway.cli.check_words import limits, when_words
from gateway.config.load import LoadedRoutes
from gateway.config.table import ModelSpec, PoolSpec, TenantSpec
from gateway.policy.routing.waking import ScaleFromZero
from gateway.policy.slo.objective import Objective, Target


def routes_as_json(loaded: LoadedRoutes) -> dict[str, Any]:
    """Return what the routes mean."""
    table = loaded.table
    return {
        "ok": True,
        "sources": table.sources,
        "warnings": [asdict(warning) for warning in loaded.warnings],
        "notes": limits(table),
        "models": {name: _model_as_json(model) for name, model in table.models.items()},
        "pools": {name: _pool_as_json(pool) for name, pool in table.pools.items()},
        "budgets": budgets_as_json(table),
        "classes": {name: asdict(each) for name, each in table.classes.items()},
        "tenants": {name: _tenant_as_json(tenant) for name, tenant in table.tenants.items()},
    }


def _tenant_as_json(tenant: TenantSpec) -> dict[str, Any]:
    return {
        "class": tenant.service_class,
        "models": None if tenant.models is None else sorted(tenant.models),
        "keys": len(tenant.key_digests),
        "limits": asdict(tenant.limits),
        "debug": tenant.debug,
    }


def _model_as_json(model: ModelSpec) -> dict[str, Any]:
    return {
        "aliases": model.aliases,
        "versions": {
            version.name: {"pools": version.pools, "served_model": version.served_model}
            for version in model.versions.values()
        },
        "split": dict(model.split),
        "canary": asdict(model.canary) if model.canary is not None else None,
        "rules": [
            {"when": when_words(rule.when), "use": rule.use, "spill_at_burn": rule.spill_at_burn}
            for rule in model.rules
        ],
        "timeouts_seconds": asdict(model.timeouts),
        "objective": _objective_as_json(model.objective),
        "objective_by_class": {name: _objective_as_json(each) for name, each in model.objective_by_class.items()},
    }


def _objective_as_json(objective: Objective) -> dict[str, Any]:
    return {
        "name": objective.name,
        "window_seconds": objective.window,
        "targets": {sli: _target_as_json(target) for sli, target in objective.targets.items()},
    }


def _target_as_json(target: Target) -> dict[str, Any]:
    if not target.under:
        return {"target": round(100 * target.ratio, 8), "ratio": target.ratio}
    return {
        "target": round(100 * target.ratio, 8),
        "ratio": target.ratio,
        "under_seconds": target.under,
        "by_prompt_tokens": dict(target.by_prompt_tokens),
    }


def _from_zero_as_json(settings: ScaleFromZero | None) -> dict[str, Any] | None:
    if settings is None:
        return None
    return {"max_held": settings.max_held, "hold_seconds": settings.hold, "wake": settings.way.value}


def _pool_as_json(pool: PoolSpec) -> dict[str, Any]:
    return {
        "accelerator": pool.accelerator,
        "cost_per_hour": pool.cost_per_hour,
        "warm_up_seconds": pool.warm_up,
        "capacity": capacity_as_json(pool),
        "scale_from_zero": _from_zero_as_json(pool.scale_from_zero),
        "pre_warm": pool.pre_warm,
        "backends": [
            {
                "id": backend.id,
                "url": backend.url,
                "max_concurrency": backend.max_concurrency,
                "has_api_key": backend.api_key is not None,
            }
            for backend in pool.backends
        ],
        "discovered": [
            {
                "origin": str(found.origin),
                "where": dict(found.where),
                "max_concurrency": found.max_concurrency,
                "max_concurrency_label": found.max_concurrency_label,
                "has_api_key": found.api_key is not None,
            }
            for found in pool.discovered
        ],
    }
