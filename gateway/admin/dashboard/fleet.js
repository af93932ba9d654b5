/** Backends, queues, deployments and capacity: tables. */

import { byId, count, duration, number, part, plural, say, show, table } from "./dom.js";

function condition(backend) {
  const found = [backend.state.replaceAll("_", " ")];
  for (const each of ["silent", "drained", "leaving", "asleep", "warming"]) if (backend[each]) found.push(each);
  if (backend.ejection !== "in_service") found.push(backend.ejection.replaceAll("_", " "));
  return found.join(", ");
}

const isWell = (backend) => backend.state === "ready" && backend.ejection === "in_service";

function reason(backend) {
  if (backend.state !== "ready") return backend.reason;
  if (backend.ejection !== "in_service") return backend.ejection_reason;
  return backend.failed_in_a_row ? `${plural(backend.failed_in_a_row, "attempt")} failed in a row` : "";
}

/** Return a number and its words, none of a backend that gets no requests. */
const ready = (backend, value, words) => (backend.state === "ready" ? [value, words(value)] : [null, "–"]);

const showBackends = table(byId("backends"), "All backends", (each) => each.id, [
  ["Backend", (cell, each) => say(cell, each.id)],
  ["State", (cell, each) => {
    say(cell, condition(each));
    cell.className = isWell(each) ? "" : "bad";
  }],
  ["Why", (cell, each) => say(cell, reason(each))],
  ["Weight", (cell, each) => show(number(cell), ...ready(each, each.weight, part))],
  ["Share, last min", (cell, each) =>
    show(number(cell), each.share, each.share == null ? "none" : `${part(each.share)}, ${plural(each.attempts_last_minute, "attempt")}`)],
  ["In flight", (cell, each) =>
    show(number(cell), each.in_flight, each.limit == null ? `${each.in_flight}, no limit` : `${each.in_flight} of ${each.limit}`)],
  ["KV tokens", (cell, each) =>
    show(number(cell), each.kv_tokens, each.kv_capacity ? `${count(each.kv_tokens)}, ${part(each.kv_tokens / each.kv_capacity)}` : count(each.kv_tokens))],
  ["TTFT predicted, 512 tokens", (cell, each) => show(number(cell), ...ready(each, each.predicted_ttft_seconds, duration))],
  ["TTFT observed", (cell, each) => show(number(cell), each.observed_ttft_seconds, duration(each.observed_ttft_seconds))],
]);

export function backends(now) {
  showBackends([...now.backends].sort((a, b) => a.id.localeCompare(b.id, "en", { numeric: true })));
}

const showQueues = table(byId("queues"), "Queues by class", (each) => each.key, [
  ["Model", (cell, each) => say(cell, each.model)],
  ["Version", (cell, each) => say(cell, each.version)],
  ["Class", (cell, each) => say(cell, each.name)],
  ["Waiting", (cell, each) => show(number(cell), each.waiting, count(each.waiting))],
  ["Tenants with the most", (cell, each) => say(cell, each.tenants)],
  ["Held back", (cell, each) => say(cell, each.held ? "yes: a higher class goes first" : "no")],
  ["Shed since the start", (cell, each) => say(cell, each.shed)],
]);

export function queues(now) {
  const rows = [];
  for (const model of now.models) {
    for (const version of model.versions) {
      const classes = new Set([...Object.keys(version.waiting), ...Object.keys(version.shed), ...version.held_back]);
      for (const name of [...classes].sort()) {
        const shed = Object.entries(version.shed[name] ?? {}).map(([reason, times]) => `${count(times)} ${reason.replaceAll("_", " ")}`);
        const waiting = version.waiting[name] ?? 0;
        const held = version.held_back.includes(name);
        const tenants = Object.entries(version.waiting_tenants[name] ?? {}).map(([tenant, many]) => `${tenant} ${count(many)}`);
        if (!waiting && !shed.length && !held) continue;
        const key = `${model.name}\n${version.name}\n${name}`;
        rows.push({ key, model: model.name, version: version.name, name, waiting, held, tenants: tenants.join(", ") || "–", shed: shed.join(", ") || "none" });
      }
    }
  }
  showQueues(rows);
}

const showDeployments = table(byId("deployments"), "Latest deployments", (each) => each.id, [
  ["Deployment", (cell, each) => say(cell, each.id)],
  ["Model", (cell, each) => say(cell, each.model)],
  ["Version", (cell, each) => say(cell, each.version)],
  ["Began", (cell, each) => say(cell, each.stages.length ? new Date(each.stages[0].at).toLocaleString("en-GB") : "–")],
  ["Stages, after", (cell, each) =>
    say(cell, each.stages.slice(1).map(({ stage, seconds }) => `${stage.replaceAll("_", " ")} ${duration(seconds)}`).join(", ") || "none yet")],
  ["Result", (cell, each) => say(cell, [each.result.replaceAll("_", " ") || "in progress", each.reason].filter(Boolean).join(": "))],
]);

export function deployments(now) {
  showDeployments(now.deployments);
}

const showCapacity = table(byId("capacity"), "Capacity that pools want", (each) => each.pool, [
  ["Pool", (cell, each) => say(cell, each.pool)],
  ["Now", (cell, each) => show(number(cell), each.replicas_now, each.replicas_now ?? "–")],
  ["Wanted", (cell, each) => show(number(cell), each.target, each.target ?? "not known")],
  ["Unit", (cell, each) => say(cell, each.unit)],
  ["Awaits approval", (cell, each) => say(cell, each.awaits ? `${each.awaits}: tidegate capacity approve ${each.pool}` : "no")],
  ["Why", (cell, each) => say(cell, each.problem || each.reason)],
]);

export function capacity(now) {
  showCapacity(now.capacity);
}
