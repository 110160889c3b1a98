#!/usr/bin/env bash
# Correctness and speed of one device, in at most BUDGET seconds: the tests `pytest -m gpu`, then
# `zerocon bench speed --suite`, then one table of both in OUT/gpu.md and OUT/gpu.json.
# It needs no network and no checkpoint: weights are those of the embedded model, or random.
#
#   benchmarks/gpu.sh [--device cuda] [--budget 480] [--tiny] [--methods NAME,...] [--out build/gpu]
#
# --tiny times tiny networks, and with --device cpu tries out the script itself.
# PYTHON names the interpreter, by default that of the active environment.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
device=cuda budget=480 suite=full methods="" out=$root/build/gpu

while (($#)); do
    case $1 in
        --tiny) suite=tiny ;;
        --device | --budget | --methods | --out)
            (($# > 1)) || { echo "$1 needs a value" >&2; exit 2; }
            printf -v "${1#--}" %s "$2"
            shift ;;
        *) echo "unknown option $1" >&2; sed -n 's/^#   //p' "$0" >&2; exit 2 ;;
    esac
    shift
done

mkdir -p "$out" || exit
rm -f "$out"/{tests.xml,speed.json,gpu.md,gpu.json}
export HF_HUB_OFFLINE=1 ZEROCON_TEST_DEVICE=$device
# also when it is interrupted, the table of what was measured is made
trap 'cd "$root" && "$python" benchmarks/summary.py "$out"' EXIT
trap 'exit 130' INT TERM
cd "$root" || exit

# half of the time at most; without a result file the table says that the tests did not finish
timeout --signal=INT $((budget / 2)) "$python" -m pytest -m gpu tests/test_gpu.py -q -rs \
    -p no:cacheprovider --junitxml="$out/tests.xml"
tests=$?
left=$((budget - SECONDS)) # a row in progress at the end is cut off soon
timeout --signal=INT $((left + 15)) "$python" -m zerocon.cli bench speed --suite "$suite" \
    --device "$device" --budget "$((left > 1 ? left : 1))" --methods "$methods" \
    --results "$out/speed.json"
speed=$?
exit $((tests ? tests : speed))
