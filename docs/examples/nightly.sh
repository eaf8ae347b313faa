#!/bin/sh
# A job that is done once a day, on one of many machines. Each of them has it in its crontab:
#   0 3 * * * seshat lock nightly --wait 1h -- nightly.sh
set -eu
day=${1:-$(date -u +%F)}

state=0
seshat get "nightly/$day" > /dev/null || state=$?
case $state in
    0) exit ;;          # done, by another machine
    1) ;;               # not done
    *) exit "$state" ;; # the cluster does not answer
esac

echo "works under token $SESHAT_LOCK_TOKEN" # the work; it passes the token on

seshat set "nightly/$day" done --ttl 7d --if-held "$SESHAT_LOCK_NAME" "$SESHAT_LOCK_TOKEN"
