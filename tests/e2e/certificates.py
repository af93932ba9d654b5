"""Authorities and certificates of servers and clients, made by openssl."""

import ssl
import subprocess
from pathlib import Path


def sign(folder: Path, authority: str = "ca", names: tuple[str, ...] = ("server", "client")) -> None:
    """Make an authority, `ca.pem`, unless there is one, and certificates of these names that it has signed."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    by = (f"{authority}.pem", f"{authority}.key")
    if not (folder / by[0]).exists():
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # Python 3.13 verifies strictly
        openssl(*new, "-x509", "-days", "2", "-subj", f"/CN={authority}", *usage, "-keyout", by[1], "-out", by[0])
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid")
    for name in names:
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("x509", "-req", "-days", "2", "-CA", by[0], "-CAkey", by[1], "-CAcreateserial")
        openssl(*signed, "-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", "names")


def known(files: Path, *, certificate: bool) -> ssl.SSLContext:
    """Return what a client knows that trusts the authority in a folder, and may have a certificate of its own."""
    context = ssl.create_default_context(cafile=files / "ca.pem")
    if certificate:
        context.load_cert_chain(files / "client.pem", files / "client.key")
    return context
