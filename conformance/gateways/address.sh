# Sourced by the scripts beside it: takes ADDRESS PRIMARY FALLBACK, each as HOST:PORT, and installs the gateway `$gateway`.
# With --install it only installs. Exit codes: 2 for a wrong command line, 3 if it does not install, 4 if the port is taken.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
say() {
    echo "conformance/rivals/$gateway: $2" >&2
    exit "$1"
}
if [ "${1:-}" != --install ]; then
    [ $# = 3 ] || say 2 "wants --install, or ADDRESS PRIMARY FALLBACK, each as HOST:PORT"
    for address in "$@"; do
        [[ $address =~ ^[^:]+:[0-9]+$ ]] || say 2 "'$address' is no HOST:PORT"
    done
    listen=$1 primary=$2 fallback=$3
    host=${listen%:*} port=${listen##*:}
    if (: 3<>"/dev/tcp/$host/$port") 2>/dev/null; then
        say 4 "$listen is taken: end what listens there, or name another port"
    fi
fi
if [ ! -e "$installed" ]; then
    benches/gateway/install "$gateway" >&2 || true
    [ -e "$installed" ] || say 3 "it does not install: benches/gateway/install needs the network once"
fi
[ "${1:-}" != --install ] || exit 0
run=target/conformance/rivals
mkdir -p "$run"
