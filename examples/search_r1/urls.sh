# shellcheck shell=bash
# Servers' URLs, read as slime_search.ops.launch.settings reads them. Sourced, not run.

# server_url NAME URL PATH: the URL of the variable NAME without a slash at its end, and without PATH if it ends in it.
server_url() {
    local url=$2
    [[ $url =~ ^https?://(\[[^]/]+\]|[^]/:@[:space:]]+)(:[0-9]+)?(/[^[:space:]]*)?$ ]] || {
        echo "$1: $url is no URL of a server; write one with a host, such as http://127.0.0.1:8000" >&2
        return 2
    }
    while [[ $url == */ ]]; do url=${url%/}; done
    url=${url%"$3"}
    while [[ $url == */ ]]; do url=${url%/}; done
    printf '%s\n' "$url"
}

# Where a server that is started listens for its URL: host_of URL, port_of URL.
host_of() {
    local host=${1#*://}
    host=${host%%/*}
    if [[ $host == \[* ]]; then
        host=${host#\[}
        host=${host%%\]*}
    else
        host=${host%%:*}
    fi
    printf '%s\n' "$host"
}

port_of() {
    [[ $1 =~ ^(https?)://(\[[^]]*\]|[^/:]*)(:([0-9]+))? ]] || return 2
    if [[ -n ${BASH_REMATCH[4]} ]]; then
        printf '%s\n' "$((10#${BASH_REMATCH[4]}))"
    elif [[ ${BASH_REMATCH[1]} == https ]]; then
        echo 443
    else
        echo 80
    fi
}
