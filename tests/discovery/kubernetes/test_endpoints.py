"""What objects of the API say: conditions, ports, families, slices, pods."""

from typing import Any

import msgspec
import pytest

from gateway.discovery.kubernetes.endpoints import Found, labels_of, of_pods, of_slices, selector_of
from gateway.discovery.kubernetes.resources import EndpointSlice, InferencePool, Pod
from gateway.discovery.target import Target, TargetState
from tests.discovery.kubernetes.objects import Json, endpoint, endpoint_slice, inference_pool, pod, port, uid


def found(*slices: Json, service: str = "vllm", port: str = "") -> Found:
    return of_slices([msgspec.convert(each, EndpointSlice) for each in slices], service, port)


def places(found: Found) -> dict[str, str]:
    return {f"{target.host}:{target.port}": target.state.value for target in found.targets.values()}


def one(**conditions: Any) -> dict[str, str]:
    return places(found(endpoint_slice("a", [endpoint("p", "10.1.2.3", **conditions)])))


READY, DRAINING, NONE = {"10.1.2.3:8000": "ready"}, {"10.1.2.3:8000": "draining"}, dict[str, str]()


class TestConditions:
    @pytest.mark.parametrize(
        ("ready", "serving", "terminating", "expected"),
        [
            (True, True, False, READY),
            (None, None, None, READY),
            (None, True, None, READY),
            (True, None, None, READY),
            (False, False, False, NONE),
            (False, None, None, NONE),
            (False, True, False, NONE),
            (False, True, True, DRAINING),
            (True, True, True, DRAINING),
            (True, None, True, DRAINING),
            (None, None, True, DRAINING),
            (False, False, True, NONE),
            (False, None, True, NONE),
            (True, False, True, NONE),
        ],
    )
    def test_each_combination(
        self, ready: bool | None, serving: bool | None, terminating: bool | None, expected: dict[str, str]
    ) -> None:
        assert one(ready=ready, serving=serving, terminating=terminating) == expected

    def test_no_conditions_at_all_are_ready(self) -> None:
        without = endpoint("p", "10.1.2.3")
        del without["conditions"]
        assert places(found(endpoint_slice("a", [without]))) == READY
        assert places(found(endpoint_slice("a", [{**without, "conditions": None}]))) == READY

    def test_one_that_gets_no_requests_is_known(self) -> None:
        parts = found(endpoint_slice("a", [endpoint("p", "10.1.2.3", ready=False)]))
        assert parts.unready == {f"{uid('p')}:8000"}


class TestIdentity:
    def test_it_is_the_pod_and_its_port(self) -> None:
        assert list(found(endpoint_slice("a", [endpoint("p", "10.1.2.3")])).targets) == [f"{uid('p')}:8000"]

    @pytest.mark.parametrize(
        ("address", "family", "key"),
        [("10.1.2.3", "IPv4", "10.1.2.3:8000"), ("fd00:0::a", "IPv6", "[fd00::a]:8000")],
    )
    def test_without_a_pod_it_is_the_address(self, address: str, family: str, key: str) -> None:
        assert list(found(endpoint_slice("a", [endpoint(None, address)], family=family)).targets) == [key]

    def test_a_reference_without_a_uid_is_none(self) -> None:
        by_hand = endpoint(None, "10.1.2.3") | {"targetRef": {"kind": "Pod", "name": "p"}}
        assert list(found(endpoint_slice("a", [by_hand])).targets) == ["10.1.2.3:8000"]

    def test_only_the_first_address_counts(self) -> None:
        several = endpoint("p", "10.1.2.3") | {"addresses": ["10.1.2.3", "10.1.2.4"]}
        assert places(found(endpoint_slice("a", [several]))) == READY


class TestSeveralSlices:
    def test_they_are_one_set(self) -> None:
        parts = found(
            endpoint_slice("a", [endpoint("p", "10.1.2.3")]),
            endpoint_slice("b", [endpoint("q", "10.1.2.4")]),
            endpoint_slice("c", None),
        )
        assert places(parts) == {"10.1.2.3:8000": "ready", "10.1.2.4:8000": "ready"}
        assert parts.problem == ""

    def test_an_endpoint_in_two_of_them_is_one(self) -> None:
        twice = [endpoint_slice(name, [endpoint("p", "10.1.2.3")]) for name in ("a", "b")]
        assert places(found(*twice)) == READY

    @pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
    def test_it_terminates_if_one_of_them_says_so(self, order: tuple[str, str]) -> None:
        stale, fresh = order
        parts = found(
            endpoint_slice(stale, [endpoint("p", "10.1.2.3")]),
            endpoint_slice(fresh, [endpoint("p", "10.1.2.3", ready=False, terminating=True)]),
        )
        assert places(parts) == DRAINING

    @pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
    def test_it_is_ready_if_one_of_them_says_so_and_it_does_not_terminate(self, order: tuple[str, str]) -> None:
        stale, fresh = order
        parts = found(
            endpoint_slice(stale, [endpoint("p", "10.1.2.3", ready=False, serving=False)]),
            endpoint_slice(fresh, [endpoint("p", "10.1.2.3")]),
        )
        assert places(parts) == READY
        assert parts.unready == set()

    def test_a_port_may_differ_between_them(self) -> None:
        parts = found(
            endpoint_slice("a", [endpoint("p", "10.1.2.3")], ports=[port(8000)]),
            endpoint_slice("b", [endpoint("q", "10.1.2.4")], ports=[port(9000)]),
        )
        assert set(places(parts)) == {"10.1.2.3:8000", "10.1.2.4:9000"}

    def test_that_there_is_none_is_told(self) -> None:
        assert "kubernetes.io/service-name=vlm" in found(service="vlm").problem


class TestFamilies:
    def test_a_pod_with_both_is_one_endpoint(self) -> None:
        parts = found(
            endpoint_slice("a", [endpoint("p", "fd00::a"), endpoint("q", "fd00::b")], family="IPv6"),
            endpoint_slice("b", [endpoint("p", "10.1.2.3"), endpoint("q", "10.1.2.4")]),
        )
        assert set(places(parts)) == {"10.1.2.3:8000", "10.1.2.4:8000"}

    def test_one_that_has_no_slice_of_the_other_family_yet_is_there(self) -> None:
        parts = found(
            endpoint_slice("a", [endpoint("p", "fd00::a"), endpoint("q", "fd00::b")], family="IPv6"),
            endpoint_slice("b", [endpoint("p", "10.1.2.3")]),
        )
        assert set(places(parts)) == {"10.1.2.3:8000", "fd00::b:8000"}

    def test_endpoints_without_pods_are_of_one_family(self) -> None:
        parts = found(
            endpoint_slice("a", [endpoint(None, "fd00::a")], family="IPv6"),
            endpoint_slice("b", [endpoint(None, "10.1.2.3")]),
        )
        assert set(places(parts)) == {"10.1.2.3:8000"}

    def test_a_service_may_have_ipv6_alone(self) -> None:
        parts = found(endpoint_slice("a", [endpoint("p", "FD00::A")], family="IPv6"), endpoint_slice("b", None))
        assert [target.host for target in parts.targets.values()] == ["fd00::a"]

    def test_names_are_no_addresses(self) -> None:
        assert found(endpoint_slice("a", [endpoint("p", "vllm.example.com")], family="FQDN")).targets == {}

    @pytest.mark.parametrize("address", ["169.254.169.254", "224.0.0.1", "0.0.0.0", "nonsense", ""])
    def test_addresses_that_no_engine_can_have_are_left_out(self, address: str) -> None:
        assert found(endpoint_slice("a", [endpoint("p", address)])).targets == {}


class TestPorts:
    TWO = (port(9090, "metrics"), port(8000, "api"))

    def chosen(self, *ports: Json, wanted: str = "") -> tuple[list[int], str]:
        parts = found(endpoint_slice("a", [endpoint("p", "10.1.2.3")], ports=list(ports)), port=wanted)
        return [target.port for target in parts.targets.values()], parts.problem

    def test_the_only_one_needs_no_name(self) -> None:
        assert self.chosen(port(8000, "")) == ([8000], "")

    @pytest.mark.parametrize("wanted", ["api", "8000"])
    def test_a_name_or_number_chooses(self, wanted: str) -> None:
        assert self.chosen(*self.TWO, wanted=wanted) == ([8000], "")

    def test_of_several_it_is_the_one_named_http(self) -> None:
        assert self.chosen(port(9090, "metrics"), port(8000, "http")) == ([8000], "")

    def test_without_such_a_name_it_is_the_first_and_a_problem(self) -> None:
        numbers, problem = self.chosen(*self.TWO)
        assert numbers == [9090]
        assert problem == (
            "there are several ports: metrics (9090), api (8000). Name one as `port`; metrics is used until then"
        )

    def test_one_that_is_not_there_is_a_problem(self) -> None:
        assert self.chosen(*self.TWO, wanted="http") == (
            [],
            "there is no port http, but metrics (9090), api (8000)",
        )

    def test_udp_is_none(self) -> None:
        assert self.chosen(port(53, "dns", "UDP"), port(8000, "api")) == ([8000], "")

    def test_a_slice_by_hand_may_leave_it_open(self) -> None:
        assert self.chosen(port(None, ""), wanted="8000") == ([8000], "")
        assert self.chosen(port(None, "")) == (
            [],
            "the EndpointSlices leave the port open: give its number as `port`",
        )
        assert self.chosen(port(None, "http"), wanted="http")[0] == []

    def test_a_service_without_endpoints_has_none_and_no_problem(self) -> None:
        assert found(endpoint_slice("a", None), port="http") == Found({})

    @pytest.mark.parametrize(("app", "tls"), [(None, False), ("http", False), ("https", True)])
    def test_app_protocol_tells_of_tls(self, app: str | None, tls: bool) -> None:
        parts = found(endpoint_slice("a", [endpoint("p", "10.1.2.3")], ports=[port(app=app)]))
        assert [target.tls for target in parts.targets.values()] == [tls]

    def test_http_2_alone_is_a_problem(self) -> None:
        numbers, problem = self.chosen(port(app="kubernetes.io/h2c"))
        assert numbers == [8000]
        assert "HTTP/2" in problem


class TestLabels:
    def test_they_are_those_of_the_service_and_the_zone(self) -> None:
        part = endpoint_slice("a", [endpoint("p", "10.1.2.3")], labels={"accelerator": "h100"})
        (target,) = found(part).targets.values()
        assert target.labels == (
            ("accelerator", "h100"),
            ("kubernetes.io/service-name", "vllm"),
            ("topology.kubernetes.io/zone", "eu-1a"),
        )

    def test_a_label_wins_over_an_annotation_and_long_ones_are_left_out(self) -> None:
        assert labels_of({"a": "1"}, {"a": "2", "b": "3", "c": "4" * 254}) == (("a", "1"), ("b", "3"))

    def test_what_kubectl_noted_is_none(self) -> None:
        assert labels_of(None, {"kubectl.kubernetes.io/last-applied-configuration": "{}"}) == ()


class TestPods:
    def found(self, pool: Json, *pods: Json) -> Found:
        return of_pods(msgspec.convert(pool, InferencePool), [msgspec.convert(each, Pod) for each in pods])

    def test_each_port_of_each_pod_is_an_endpoint(self) -> None:
        parts = self.found(inference_pool("llama", 8000, 8001), pod("p", "10.1.2.3"), pod("q", "10.1.2.4"))
        assert set(parts.targets) == {f"{uid(name)}:{number}" for name in "pq" for number in (8000, 8001)}
        assert parts.problem == ""

    def test_one_that_is_not_ready_gets_nothing(self) -> None:
        parts = self.found(inference_pool(), pod("p", "10.1.2.3", ready=False), pod("q", None))
        assert parts.targets == {}
        assert parts.unready == {f"{uid('p')}:8000", f"{uid('q')}:8000"}

    def test_one_that_is_deleted_drains_while_it_is_ready(self) -> None:
        pods = pod("p", "10.1.2.3", terminating=True), pod("q", "10.1.2.4", ready=False, terminating=True)
        assert places(self.found(inference_pool(), *pods)) == DRAINING

    def test_its_labels_and_annotations_are_the_targets(self) -> None:
        made = pod("p", "10.1.2.3", labels={"accelerator": "h100"}, annotations={"weight": "2"})
        (target,) = self.found(inference_pool(), made).targets.values()
        labels = (("accelerator", "h100"), ("app", "vllm"), ("pod-template-hash", "7768647bf9"), ("weight", "2"))
        assert target == Target(f"{uid('p')}:8000", "10.1.2.3", 8000, state=TargetState.READY, labels=labels)

    def test_http_2_alone_is_a_problem(self) -> None:
        assert "HTTP/2" in self.found(inference_pool(app="kubernetes.io/h2c")).problem

    @pytest.mark.parametrize(
        ("labels", "selector"), [({"b": "2", "a": "1"}, "a=1,b=2"), ({"app": ""}, "app="), ({}, None)]
    )
    def test_its_selector(self, labels: dict[str, str], selector: str | None) -> None:
        assert selector_of(msgspec.convert(inference_pool(labels=labels), InferencePool)) == selector

    def test_a_pool_without_a_spec_selects_nothing(self) -> None:
        assert selector_of(InferencePool()) is None
        assert of_pods(InferencePool(), []) == Found({})
