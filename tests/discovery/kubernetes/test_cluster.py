"""Which API server is asked, and with which token and authority."""

import ssl
from pathlib import Path

import pytest

from gateway.discovery.kubernetes.api import connected
from gateway.discovery.kubernetes.cluster import Cluster, ClusterSettings, NoClusterError, find_cluster
from gateway.discovery.kubernetes.problems import ApiError
from gateway.discovery.kubernetes.resources import slices_of
from tests.discovery.kubernetes.api_server import api_server
from tests.discovery.kubernetes.objects import endpoint_slice
from tests.e2e.certificates import sign

IN_A_POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
SLICES = slices_of("vllm", "serving")


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """The files of a service account, as the kubelet mounts them."""
    (tmp_path / "token").write_text("s3cret")
    (tmp_path / "namespace").write_text("serving")
    return tmp_path


def test_in_a_pod_it_is_that_of_the_cluster(account: Path) -> None:
    found = find_cluster(ClusterSettings(), IN_A_POD, account)
    assert found == Cluster("https://10.96.0.1:443", account / "token", account / "ca.crt", "serving")


def test_the_port_for_https_counts(account: Path) -> None:
    environment = {**IN_A_POD, "KUBERNETES_SERVICE_PORT": "80", "KUBERNETES_SERVICE_PORT_HTTPS": "6443"}
    assert find_cluster(ClusterSettings(), environment, account).url == "https://10.96.0.1:6443"


def test_its_address_may_be_one_of_ipv6(account: Path) -> None:
    assert (
        find_cluster(ClusterSettings(), {"KUBERNETES_SERVICE_HOST": "fd00::1"}, account).url == "https://[fd00::1]:443"
    )


def test_outside_a_cluster_it_says_what_to_set(account: Path) -> None:
    with pytest.raises(NoClusterError, match=r"set --kubernetes-api, for example to the http://127\.0\.0\.1:8001"):
        find_cluster(ClusterSettings(), {}, account)


def test_one_that_was_set_does_not_get_the_token_of_the_account(account: Path) -> None:
    found = find_cluster(ClusterSettings("https://k8s.example.com/clusters/a"), IN_A_POD, account)
    assert found == Cluster("https://k8s.example.com:443/clusters/a", None, None, "serving")


def test_without_an_account_the_namespace_is_default(tmp_path: Path) -> None:
    assert find_cluster(ClusterSettings("http://127.0.0.1:8001"), {}, tmp_path).namespace == "default"


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://10.0.0.1", True),
        ("http://127.0.0.1:8001", True),
        ("http://localhost:8001", True),
        ("http://10.0.0.1:8001", False),
        ("http://k8s.example.com", False),
    ],
)
def test_a_token_does_not_cross_a_network_in_the_clear(account: Path, url: str, safe: bool) -> None:
    if safe:
        assert find_cluster(ClusterSettings(url, account / "token"), {}, account).token() == "s3cret"
        return
    with pytest.raises(ValueError, match="must be https"):
        ClusterSettings(url, account / "token")


@pytest.mark.parametrize("url", ["k8s.example.com", "ftp://k8s", "https://user:s3cret@k8s", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the address of the Kubernetes API server") as caught:
        ClusterSettings(url)
    assert "s3cret" not in str(caught.value)


def test_an_environment_that_makes_no_sense_is_told(account: Path) -> None:
    with pytest.raises(NoClusterError, match="KUBERNETES_SERVICE_HOST and _PORT give no address"):
        find_cluster(ClusterSettings(), {**IN_A_POD, "KUBERNETES_SERVICE_PORT": "tcp://10.0.0.1:80"}, account)


def test_the_token_is_read_anew(account: Path) -> None:
    found = find_cluster(ClusterSettings(), IN_A_POD, account)
    (account / "token").write_text("renewed\n")
    assert found.token() == "renewed"


@pytest.mark.anyio
class TestTls:
    async def test_its_certificate_is_verified_with_the_clusters_authority(self, account: Path) -> None:
        sign(account)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(account / "server.pem", account / "server.key")
        async with api_server(tls=context) as server:
            server.put(endpoint_slice("a", None))
            async with connected(Cluster(server.url, account / "token", account / "ca.pem")) as api:
                found, version = await api.list(SLICES)
            assert ([each.metadata.name for each in found], version) == (["a"], str(server.version))

    async def test_one_of_another_authority_is_refused(self, account: Path) -> None:
        sign(account)
        sign(account, "other-ca", names=())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(account / "server.pem", account / "server.key")
        async with api_server(tls=context) as server:
            async with connected(Cluster(server.url, account / "token", account / "other-ca.pem")) as api:
                with pytest.raises(ApiError, match=r"cannot be verified with .*other-ca\.pem"):
                    await api.list(SLICES)
            assert server.requests == []

    async def test_an_authority_that_is_not_there_is_told(self, account: Path) -> None:
        with pytest.raises(ApiError, match=r"ca\.crt cannot be read"):
            async with connected(find_cluster(ClusterSettings(), IN_A_POD, account)):
                pass
