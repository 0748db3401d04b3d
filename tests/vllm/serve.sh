#!/usr/bin/env bash
# Serves the tiny model with a real vLLM, on the loopback interface.
#
#   tests/vllm/serve.sh VERSION PORT [arguments of `vllm serve`]
#
# Run setup.sh with the same version before. LORA=0 leaves adapters out; UPDATING=0 does not let them be changed. It
# takes 25 to 45 s to start, mostly to import; two need 6 GB of memory.
set -euo pipefail
VERSION=${1:?which version? for example 0.32.0}
PORT=${2:?which port?}
shift 2
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [ ! -f "$complete" ]; then
    echo "vLLM $VERSION is not set up: run $here/setup.sh $VERSION" >&2
    exit 1
fi

# Without compiled modules each start takes more than twice as long.
unset PYTHONDONTWRITEBYTECODE
# One thread: with two on a busy machine of two cores, answers took from 0.2 s to 3.6 s.
export OMP_NUM_THREADS=1
# 0.11.0 does not know `nobind`.
if [ "$VERSION" = 0.11.0 ]; then bind=0; else bind=nobind; fi
export VLLM_CPU_OMP_THREADS_BIND=$bind VLLM_CPU_KVCACHE_SPACE=1
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
export VLLM_ALLOW_RUNTIME_LORA_UPDATING=${UPDATING:-1} VLLM_HOST_IP=127.0.0.1
export VLLM_CACHE_ROOT=$root/cache HF_HOME=$root/hub

lora=(--enable-lora --max-lora-rank 16 --max-loras 2 --max-cpu-loras 4)
if [ "${LORA:-1}" = 0 ]; then lora=(); fi
exec "$venv/bin/vllm" serve "$model" --served-model-name tiny-base --host 127.0.0.1 --port "$PORT" \
    --max-model-len 128 --max-num-seqs 8 --enforce-eager --dtype float32 "${lora[@]}" "$@"
