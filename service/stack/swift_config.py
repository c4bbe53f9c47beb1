"""Configuration of a single-node OpenStack Swift with its S3 API: one replica, loopback only, objects on disk.

Four servers (account, container, object, proxy) and the updater that brings listings up to date after a container
server was away. The proxy speaks S3 and checks signatures against one user; access keys have the form account:user.
The others ask for no keys, so they have no ports either (`service.stack.swift_sockets`).
"""

from __future__ import annotations

import configparser
import io
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.stack import swift_sockets
from service.stack.process import write_private

ACCOUNT, USER = "vaesvc", "admin"
ACCESS_KEY = f"{ACCOUNT}:{USER}"
REGION = "us-east-1"
STORAGE_SERVERS = tuple(swift_sockets.PORTS)
_MIB = str(2**20)
_PIPELINE = (  # outermost first
    "catch_errors",
    "gatekeeper",
    "healthcheck",
    "cache",
    "listing_formats",
    "s3api",
    "tempauth",
    "copy",
    "slo",
    "versioned_writes",
    "symlink",
)
_FILTERS: dict[str, dict[str, str]] = {
    "cache": {"paste.filter_factory": "service.stack.swift_cache:filter_factory"},
    "s3api": {"location": REGION, "dns_compliant_bucket_names": "true", "max_upload_part_num": "10000"},
    "slo": {"max_manifest_segments": "10000", "max_manifest_size": str(8 * 2**20)},
    "versioned_writes": {"allow_versioned_writes": "true", "allow_object_versioning": "true"},
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The layout of Swift's state directory. port: the proxy's."""

    root: Path
    port: int
    system_user: str

    @property
    def configs(self) -> Path:
        return self.root / "etc"

    @property
    def devices(self) -> Path:
        return self.root / "devices"

    @property
    def sockets(self) -> Path:
        return self.root / "sockets"

    def config(self, server: str) -> Path:
        return self.configs / f"{server}-server.conf"


def write(layout: Layout, secret_key: str) -> None:
    """Write all configuration files, mode 0600: the proxy's holds the secret key."""
    for folder in (layout.configs, layout.devices / "d1", layout.root / "cache"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    hashes = layout.configs / "swift.conf"
    if not hashes.exists():  # object paths on disk follow from it: made once, never changed
        write_private(hashes, _ini(_hash_sections()))
    for server in STORAGE_SERVERS:
        write_private(layout.config(server), _ini(_storage_sections(layout, server)))
    write_private(layout.config("proxy"), _ini(_proxy_sections(layout, secret_key)))


def _hash_sections() -> dict[str, dict[str, str]]:
    salt = {f"swift_hash_path_{end}": secrets.token_hex(16) for end in ("prefix", "suffix")}
    return {"swift-hash": salt, "storage-policy:0": {"name": "default", "default": "yes"}}


def _common(layout: Layout, port: int) -> dict[str, str]:
    return {
        "bind_ip": swift_sockets.HOST,
        "bind_port": str(port),
        "user": layout.system_user,
        "swift_dir": str(layout.configs),
        "devices": str(layout.devices),
        "mount_check": "false",
        "recon_cache_path": str(layout.root / "cache"),
        "log_level": "WARNING",
        "fallocate_reserve": "0",
        "workers": "0",
    }


def _storage_sections(layout: Layout, server: str) -> dict[str, dict[str, str]]:
    app = {"use": f"egg:swift#{server}"}
    sections = {
        "DEFAULT": _common(layout, swift_sockets.PORTS[server]),
        "pipeline:main": {"pipeline": f"{server}-server"},
    }
    if server == "object":
        app |= {"disk_chunk_size": _MIB, "network_chunk_size": _MIB, "keep_cache_size": str(64 * 2**20)}
        sections["object-updater"] = {"interval": "5", "concurrency": "1"}
    return {**sections, f"app:{server}-server": app}


def _proxy_sections(layout: Layout, secret_key: str) -> dict[str, dict[str, str]]:
    app = {
        "use": "egg:swift#proxy",
        "account_autocreate": "true",
        "object_chunk_size": _MIB,
        "client_chunk_size": _MIB,
        "node_timeout": "60",
        "conn_timeout": "5",
    }
    sections = {
        "DEFAULT": _common(layout, layout.port),
        "pipeline:main": {"pipeline": " ".join((*_PIPELINE, "proxy-server"))},
        "app:proxy-server": app,
    }
    for name in _PIPELINE:
        own = _FILTERS.get(name, {})
        use = {} if "paste.filter_factory" in own else {"use": f"egg:swift#{name}"}
        sections[f"filter:{name}"] = {**use, **own}
    sections["filter:tempauth"][f"user_{ACCOUNT}_{USER}"] = f"{secret_key} .admin"
    return sections


def _ini(sections: Mapping[str, Mapping[str, str]]) -> str:
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keep the case
    parser.read_dict(sections)
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()
