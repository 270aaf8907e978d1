#!/bin/sh
# A throwaway PostgreSQL for the tests: its own cluster in a temporary folder, reached through a unix socket, never
# through the network, and gone afterwards.
#
#   tests/postgres.sh run COMMAND…   runs the command with DAYBREAK_TEST_POSTGRES set to the server's address
#   tests/postgres.sh start          prints two lines: the folder and the address; the server stays
#   tests/postgres.sh stop FOLDER    stops the server that `start` left, and removes its folder
set -eu

fail() {
    echo "postgres.sh: $*" >&2
    exit 1
}

# The newest of Debian's versions, or what stands on the PATH.
bin_dir() {
    found=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -n | tail -n 1)
    if [ -z "$found" ]; then
        found=$(dirname "$(command -v initdb || true)")
    fi
    [ -x "$found/initdb" ] || fail "PostgreSQL is missing; install it: apt-get install -y --no-install-recommends postgresql"
    echo "$found"
}

# PostgreSQL refuses to run as root: then the cluster belongs to an unprivileged user.
as_server() {
    if [ "$(id -u)" = 0 ]; then
        if id postgres >/dev/null 2>&1; then user=postgres; else user=nobody; fi
        (cd / && setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups -- "$@")
    else
        "$@"
    fi
}

start() {
    bin=$(bin_dir)
    dir=$(mktemp -d "${TMPDIR:-/tmp}/daybreak-postgres.XXXXXX")
    if [ "$(id -u)" = 0 ]; then
        if id postgres >/dev/null 2>&1; then chown postgres "$dir"; else chown nobody "$dir"; fi
    fi
    chmod 755 "$dir" # the socket is reached by whoever runs the tests
    export LC_ALL=C.UTF-8
    if ! as_server "$bin/initdb" -D "$dir/data" -U daybreak -E UTF8 --auth=trust --no-sync >"$dir.log" 2>&1 ||
        ! as_server "$bin/pg_ctl" -D "$dir/data" -w -t 60 -l "$dir/server.log" start \
            -o "-c listen_addresses='' -c unix_socket_directories='$dir' -c unix_socket_permissions=0777 -c fsync=off -c max_connections=200" \
            >>"$dir.log" 2>&1; then
        cat "$dir.log" "$dir/server.log" >&2 2>/dev/null || true
        rm -rf "$dir" "$dir.log"
        fail "the server did not start"
    fi
    rm -f "$dir.log"
}

stop() {
    bin=$(bin_dir)
    as_server "$bin/pg_ctl" -D "$1/data" -w -t 60 -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$1"
}

address() {
    echo "postgres://daybreak@localhost/postgres?host=$1"
}

case "${1:-}" in
run)
    shift
    [ $# -gt 0 ] || fail "run needs a command"
    start
    trap 'stop "$dir"' EXIT
    trap 'exit 130' INT TERM
    DAYBREAK_TEST_POSTGRES=$(address "$dir")
    export DAYBREAK_TEST_POSTGRES
    "$@"
    ;;
start)
    start
    echo "$dir"
    address "$dir"
    ;;
stop)
    [ -n "${2:-}" ] || fail "stop needs the folder that start printed"
    [ -d "$2/data" ] || fail "no server in $2"
    stop "$2"
    ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
