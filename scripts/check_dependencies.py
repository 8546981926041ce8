"""Reads `cargo metadata --no-deps` and fails when a dependency breaks a rule of docs/architecture.md."""

import json
import sys

# Who may depend on which of our own crates (dev-dependencies are not counted).
OURS = {
    "muscle-abi": set(),
    "muscle-macros": set(),
    "muscle-ring": {"muscle-abi"},
    "guest-runtime": {"muscle-abi", "muscle-ring"},
    "muscle-sdk": {"muscle-abi", "muscle-macros", "muscle-ring", "guest-runtime"},
    "referee-hv": {"muscle-abi"},
    "referee-vsock": {"muscle-abi"},
    "referee-bundle": {"muscle-abi"},
    "referee-audit": set(),
    "referee-jail": set(),
    "referee-scheduler": set(),
    "referee-policy": {"muscle-abi", "referee-bundle"},
    "referee-capabilities": {"muscle-abi", "referee-audit", "referee-bundle", "referee-policy"},
    "referee-cell": {"muscle-abi", "referee-hv", "referee-vsock", "referee-bundle", "referee-jail"},
    "referee": {
        "muscle-abi", "referee-attest", "referee-audit", "referee-bundle", "referee-capabilities", "referee-cell", "referee-hv",
        "referee-jail", "referee-policy", "referee-vsock",
    },
    "referee-attest": set(),
    "referee-trace": set(),
    "referee-evidence": {"referee-bundle"},
    "referee-tlog": {"referee-audit"},
    "referee-tpm": {"referee-attest", "referee-bundle", "referee-evidence", "referee-tlog"},
    # No TPM library, no virtual machine.
    "referee-verify": {"referee-attest", "referee-audit", "referee-evidence", "referee-tlog"},
    "referee-node": {
        "muscle-abi", "referee", "referee-attest", "referee-audit", "referee-bundle", "referee-capabilities", "referee-cell", "referee-hv",
        "referee-jail", "referee-policy", "referee-scheduler", "referee-trace",
    },
    # Nothing beneath the library.
    "referee-vmm": {"muscle-abi", "referee", "referee-node", "referee-attest", "referee-audit", "referee-tlog"},
    "cargo-muscle": {"muscle-abi", "referee-bundle"},
}

# Packages with one job, and the only crates that may use them.
ONLY = {
    "kvm-ioctls": {"referee-hv"},
    "kvm-bindings": {"referee-hv"},
    "virtio-queue": {"referee-vsock"},
    "virtio-bindings": {"referee-vsock"},
    "vm-superio": {"referee-capabilities"},
    "cap-std": {"referee-capabilities"},
    "cedar-policy": {"referee-policy"},
    "seccompiler": {"referee-jail"},
    "linux-loader": {"referee-cell"},
    "event-manager": {"referee-cell"},
    "ed25519-dalek": {"referee-bundle", "referee-tlog", "referee-tpm", "cargo-muscle"},
    "tss-esapi": {"referee-tpm"},
    "tokio": {"referee-node", "referee-trace", "referee-vmm"},
    "opentelemetry": {"referee-trace"},
    "opentelemetry_sdk": {"referee-trace"},
    "opentelemetry-otlp": {"referee-trace"},
    "prometheus-client": {"referee-node"},
    "ratatui": {"referee-vmm"},
    "axum": {"referee-node"},
    "tokio-rustls": {"referee-node"},
    "utoipa": {"referee-node"},
    "utoipa-axum": {"referee-node"},
    "redb": {"referee-node"},
    "listenfd": {"referee-node"},
}

# Packages that only test, and so may use everything.
TESTS = {"referee-tests", "referee-benches"}


def main() -> int:
    packages = json.load(sys.stdin)["packages"]
    ours = {package["name"] for package in packages}
    problems = []
    for package in packages:
        name = package["name"]
        if name in TESTS:
            continue
        if name not in OURS:
            problems.append(f"{name}: no rule for this crate; add it to scripts/check_dependencies.py")
            continue
        for dependency in package["dependencies"]:
            if dependency["kind"] == "dev":
                continue
            target = dependency["name"]
            if target in ours and target not in OURS[name]:
                problems.append(f"{name} must not depend on {target}")
            if target in ONLY and name not in ONLY[target]:
                problems.append(f"{name} must not use {target}: only {', '.join(sorted(ONLY[target])) or 'nobody'} may")
    for problem in problems:
        print(f"dependency direction: {problem}", file=sys.stderr)
    print(f"dependency direction: {len(packages)} crates checked, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
