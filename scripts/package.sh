#!/usr/bin/env bash
# Makes the Debian package: the programs, the units, the default configuration, policies, manual page and completions.
#   scripts/package.sh            of optimised programs
#   scripts/package.sh --debug    of those that the tests use, which are there sooner
# The last line that it prints is the package's path.
. "$(dirname "$0")/lib.sh"

profile=release folder=release
case "${1:-}" in
  --debug) profile=dev folder=debug ;;
  '') ;;
  *) say "unknown option $1"; exit 100 ;;
esac

# The version is fixed, as the toolchain's is.
wanted=3.8.0
if ! cargo deb --version 2>/dev/null | grep -qxF "cargo-deb $wanted"; then
  say "installing cargo-deb $wanted (a few minutes, once)"
  cargo install cargo-deb --version "$wanted" --locked --quiet
fi

say "building the programs"
cargo build --locked --quiet --profile "$profile" -p referee-vmm -p cargo-muscle -p referee-tpm -p referee-verify

# cargo-deb finds them there, because assets below target/ follow the profile.
made=$CARGO_TARGET_DIR/$folder/package
rm -rf "$made"
mkdir -p "$made"
program=$CARGO_TARGET_DIR/$folder/referee-vmm
"$program" man | gzip -9n >"$made/referee-vmm.1.gz"
"$program" completions bash >"$made/referee-vmm.bash"
"$program" completions zsh >"$made/_referee-vmm"
"$program" completions fish >"$made/referee-vmm.fish"

# The configuration shows every key with its default: each is there, and with all of them the program takes it.
sed 's/^#\([a-z[]\)/\1/' scripts/package/node.toml >"$made/node.toml"
"$program" config print --config "$made/node.toml" >/dev/null
"$program" config print | sed -n 's/^\([a-z_]*\) = .*/\1/p' | while read -r key; do
  grep -qE "^#?$key = " scripts/package/node.toml || { say "scripts/package/node.toml does not show $key"; exit 1; }
done

# An operator's own drop-ins may lower it; the unit as it is shipped must not.
if command -v systemd-analyze >/dev/null 2>&1; then
  say "the unit's sandbox, as systemd judges it"
  judged=$(systemd-analyze security --offline=true --threshold=20 --no-pager scripts/package/referee.service) \
    || { printf '%s\n' "$judged"; exit 1; }
  tail -n 1 <<<"$judged"
fi

say "packing"
cargo deb --quiet --locked --no-build --profile "$profile" --package referee-vmm --output "$made/"
ls "$made"/*.deb
