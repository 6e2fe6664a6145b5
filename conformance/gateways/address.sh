# Sourced by the scripts beside it, with the gateway's name in `gateway` and its program in `installed`: takes ADDRESS PRIMARY
# FALLBACK, each as HOST:PORT, or --install. Exit codes: 2 for a wrong command line, 3 if the gateway does not install, 4 if the
# port is taken.
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
say() {
    echo "conformance/gateways/$gateway: $2" >&2
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
    [ "$gateway" != steadfast ] || say 3 "there is no $installed: \`cargo build -p steadfast-cli\` builds it, or STEADFAST names one"
    benches/gateway/install "$gateway" >&2 || true
    [ -e "$installed" ] || say 3 "it does not install: benches/gateway/install needs the network once"
fi
[ "${1:-}" != --install ] || exit 0
run=target/conformance/gateways
mkdir -p "$run"
# Every model that a judge asks for, with the provider whose protocol it is.
models=(openai/gpt-5 openai/gpt-4.1 openai/gpt-4.1-mini anthropic/claude-sonnet-4-5 anthropic/claude-haiku-4-5)
