"""Certificates for servers of a test: an authority of our own, and what it signs for one address."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def write_certificates(authority: Path, host: Path, address: str) -> None:
    """Write the certificate of an authority; and a key, its certificate for an address, and that of the authority."""
    ca_key, host_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name, host_name = _name("tchat tests"), _name(address)
    is_ca = x509.BasicConstraints(ca=True, path_length=0)
    ca = _certificate(ca_name, ca_name, ca_key.public_key()).add_extension(is_ca, critical=True)
    named = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    signed = _certificate(ca_name, host_name, host_key.public_key()).add_extension(named, critical=False)
    ca_pem = ca.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)
    authority.write_bytes(ca_pem)
    key_pem = host_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    host.write_bytes(key_pem + signed.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM) + ca_pem)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=7))
    )
