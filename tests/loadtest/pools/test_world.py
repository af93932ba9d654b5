"""CPUs beside GPUs: cheaper at the same objective, left when they are slow, and no way out for what they cannot do."""

from functools import partial

from loadtest.pools.world import EVERYTHING_ON_GPU, Fleet, Pools, Sent, bill
from loadtest.routing.world import Request


def short(request: Request, sent: Sent) -> bool:
    return request.prompt < 256 and sent.service_class != "batch"


def long(request: Request, _: Sent) -> bool:
    return request.prompt >= 256


def test_six_cpus_beside_one_gpu_keep_what_two_gpus_keep() -> None:
    mixed, alone = bill(1, 27.0, Fleet(1, 6), 120.0), bill(1, 27.0, Fleet(2, 0, EVERYTHING_ON_GPU), 120.0)
    assert mixed.fleet.price <= 0.8 * alone.fleet.price
    assert min(mixed.interactive, alone.interactive) >= 0.99
    assert mixed.batch == alone.batch == 1.0
    assert mixed.by_pool["cpu"] > 0.2


def test_slow_cpus_get_nothing_after_ten_seconds_and_their_work_again_once_they_are_well() -> None:
    world = Pools(1, 12.0, Fleet(2, 6))
    world.at(60.0, partial(world.slow, "cpu", 5.0))
    world.at(120.0, partial(world.slow, "cpu", 1.0))
    world.run(240.0)
    assert world.share("cpu", 30.0, 60.0, short) > 0.8
    assert world.share("cpu", 70.0, 120.0, short) < 0.05, "trials go on"
    assert world.met(80.0, 120.0) > 0.98
    assert world.share("cpu", 200.0, 240.0, short) > 0.8


def test_slow_gpus_send_long_prompts_to_cpus_only_while_those_are_predicted_to_do_better() -> None:
    world = Pools(1, 12.0, Fleet(2, 6))
    world.at(60.0, partial(world.slow, "gpu", 5.0))
    world.run(120.0)
    spilled = [
        request
        for request in world.arrived(60.0, 120.0)
        if long(request, world.sent[request.number]) and world.sent[request.number].pool == "cpu"
    ]
    assert world.share("cpu", 60.0, 120.0, short) > 0.8
    assert spilled
    for request in spilled:
        sent = world.sent[request.number]
        gpus, cpus = sent.outlooks
        assert sent.was_trial or cpus.is_good() or cpus.ratio < gpus.ratio or not gpus.slot
