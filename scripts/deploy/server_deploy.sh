#!/bin/sh
# Deploy a release and gate it; the previous release is restored unless every check passes.
# usage: server_deploy.sh --image-tag TAG [--target live|idle|blue|green] [pytest options]
set -eu
case ${1-}:${2-} in
    --image-tag:?*) tag=$2; shift 2 ;;
    *) echo "usage: server_deploy.sh --image-tag TAG [--target COLOR]" >&2; exit 4 ;;
esac
target=live
case ${1-}:${2-} in
    --target:?*) target=$2; shift 2 ;;
    --target=?*) target=${1#--target=}; shift ;;
esac
exec "$(dirname "$0")/../session" smoke "--target=$target" "--deploy=$tag" "$@"
