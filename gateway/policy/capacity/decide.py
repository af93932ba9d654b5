"""The one entry point: from what is known of a pool to what it wants."""

from gateway.policy.capacity.want import Decision, Memory, PoolLoad, Rail, Rule, Rules, Want


def decide(load: PoolLoad, rules: Rules, memory: Memory, now: float) -> Decision:
    """Return what a pool wants at `now`, and the memory to hand to the next call. Called once a second or so."""
    proposed = load.replicas if memory.target is None else memory.target
    target = min(max(proposed, rules.min), rules.max)
    rails = (Rail.MIN,) if target > proposed else (Rail.MAX,) if target < proposed else ()
    want = Want(
        load.pool,
        rules.min,
        rules.max,
        target,
        "replicas",
        load.replicas,
        "nothing speaks for a change",
        Rule.HOLD,
        {"ready": load.ready, "starting": load.starting},
        now + rules.valid_for,
        float(target),
        proposed,
        rails,
    )
    return Decision(want, Memory(target))
