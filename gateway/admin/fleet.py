"""What `/admin/status` tells of the gateways that share a store."""

from pydantic import BaseModel

from gateway.control.persistence import FleetView


class MemberStatus(BaseModel):
    """A gateway, or one of its workers, that shares the store.

    `name` is of one start of the process. `wrote_seconds` is how long ago it had saved last, when that was asked for.
    """

    name: str
    leads: bool
    wrote_seconds: float


class FleetStatus(BaseModel):
    """The store, and the gateways that share it, as this one sees them; each worker counts as one.

    `name` is this gateway's own name, and `store` the id of the store: gateways that show another one share nothing
    with this one. `alive` is how many have saved something within 10 s, null before that is known; `members` names
    those of them that wrote last, 100 at most. `leader` is "" while none leads. Both are asked for every 5 s.
    `saved_seconds` is how long ago this one saved last, and `save_seconds` how long that took; null before the first
    time. `unsaved_slots` counts what waits in memory to be saved. `recovering` says that the store was emptied, and
    that what gateways had there is being restored.
    """

    name: str
    store: str
    alive: int | None
    leader: str
    members: list[MemberStatus]
    saved_seconds: float | None
    save_seconds: float | None
    unsaved_slots: int
    recovering: bool


def fleet_status(view: FleetView | None) -> FleetStatus | None:
    """Return what is shown of a fleet."""
    if view is None:
        return None
    found = view.members
    leader = view.incarnation if view.leads else "" if found is None else found.leader
    return FleetStatus(
        name=view.incarnation,
        store=view.epoch,
        alive=None if found is None else found.alive,
        leader=leader,
        members=[
            MemberStatus(name=each.incarnation, leads=each.incarnation == leader, wrote_seconds=round(each.seconds, 1))
            for each in (() if found is None else found.latest)
        ],
        saved_seconds=None if view.saved is None else round(view.saved, 1),
        save_seconds=None if view.took is None else round(view.took, 3),
        unsaved_slots=view.unsaved,
        recovering=view.recovering,
    )
