#!/usr/bin/env bash
# Trains an ESPnet codec with any quantizer and evaluates it on held-out speech, with
# ESPnet's own programs; the launcher registers the quantizers.
#
#   bash recipes/espnet_codec/run.sh
#   bash recipes/espnet_codec/run.sh conf/soundstream_16k.yaml --data_folder DIR --ngpu 1
#   sbvq run espnet_codec fsdd --quantizer bsq --bandwidths 1
set -euo pipefail

# As in ESPnet's own recipes: --nj sets the number of processes, and several threads per
# process would slow them down.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Options, each with its default; `--name value` sets one.
stage=1              # first stage to run
stop_stage=6         # last stage to run
output_folder=       # default: results/espnet_codec/CONFIG, in the current folder
expdir=              # of the training; default: OUTPUT_FOLDER/exp or .../exp_QUANTIZER
data_folder=         # a folder of audio; default: the Free Spoken Digit Dataset
manifest=            # a CSV file that lists audio (a column wav; ID and spk_id if known)
cache_folder=        # for downloaded corpora
held_out="0.05 0.15" # shares for validation and test
join_seconds=3       # shorter utterances of a speaker are concatenated up to this
peak=0.9             # every utterance is scaled to it; 0 leaves it as recorded
quantizer=           # a name of `sbvq ls quantizers`; default: that of CONFIG
quantizer_conf=      # its options, such as '{entropy_weight: 0.1}'
bandwidths=          # kbit/s to evaluate, such as "1 2"; default: those of CONFIG
train_args=          # more options of gan_codec_train, such as "--max_epoch 3"
inference_model=latest.pth # in EXPDIR
ngpu=0               # GPUs for training; inference uses one
nj=1                 # processes at a time in stages 1, 4 and 5
python=              # the Python to use; default: $PYTHON, or python3

usage() {
    cat <<END
usage: run.sh [CONFIG.yaml] [--name value ...]

CONFIG.yaml is a training configuration of ESPnet (default: conf/fsdd.yaml).
Stages: 1 data, 2 shapes, 3 training, 4 inference, 5 scoring, 6 report.

Options and their defaults:
END
    awk '/^# Options/ { shown = 1; next } /^$/ { shown = 0 }
        shown { sub(/=/, " "); print "  --" $0 }' \
        "${BASH_SOURCE[0]}"
}

log() { echo "$(date '+%Y-%m-%dT%H:%M:%S') (run.sh) $*"; }
fail() {
    echo "run.sh: error: $*" >&2
    exit 2
}

# ------------------------------------------------------------- the command line
config=$recipe/conf/fsdd.yaml
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    config=$1
    shift
fi
# Configurations of the recipe may be given relative to its folder.
if [ ! -f "$config" ] && [ -f "$recipe/$config" ]; then config=$recipe/$config; fi
known="stage stop_stage output_folder expdir data_folder manifest cache_folder held_out
join_seconds peak quantizer quantizer_conf bandwidths train_args inference_model ngpu nj python"
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --*=*) name=${1%%=*} value=${1#*=} && shift ;;
        --*)
            name=$1
            [ $# -gt 1 ] || fail "$1 needs a value (--help lists the options)"
            value=$2
            shift 2
            ;;
        *) fail "$1 is not an option; the configuration must come first (--help)" ;;
    esac
    name=${name#--}
    case " $(echo $known) " in
        *" $name "*) printf -v "$name" %s "$value" ;;
        *) fail "unknown option --$name; known are: $(echo $known)" ;;
    esac
done
for name in stage stop_stage ngpu nj; do
    [[ ${!name} =~ ^[0-9]+$ ]] || fail "--$name takes a whole number, not '${!name}'"
    # Base 10: a leading zero would mean octal.
    printf -v "$name" %d "$((10#${!name}))"
done
for name in stage stop_stage; do
    [[ ${!name} =~ ^[1-6]$ ]] || fail "--$name takes a number from 1 to 6, not ${!name}"
done
[ "$stop_stage" -ge "$stage" ] || fail "--stop_stage $stop_stage is before --stage $stage"
[ "$nj" -gt 0 ] || fail "--nj takes a number above 0"
number='([0-9]+([.][0-9]*)?|[.][0-9]+)'
for name in join_seconds peak; do
    [[ ${!name} =~ ^$number$ ]] || fail "--$name takes a number, not '${!name}'"
done
holds() { awk "BEGIN { exit !($1) }"; } # CONDITION: on the numbers checked above
holds "$peak <= 1" || fail "--peak takes a number from 0 to 1, not $peak"
[[ $held_out =~ ^$number\ +$number$ ]] ||
    fail "--held_out takes two shares, such as '0.05 0.15', not '$held_out'"
read -r first second <<<"$held_out"
holds "$first > 0 && $second > 0 && $first + $second < 1" ||
    fail "--held_out takes two shares above 0 that add up to less than 1, not '$held_out'"
python=${python:-${PYTHON:-python3}}
command -v "$python" >/dev/null || fail "no such Python: $python (--python)"

name=$(basename "$config")
output_folder=${output_folder:-results/espnet_codec/${name%.*}}
expdir=${expdir:-$output_folder/exp${quantizer:+_$quantizer}}
data=$output_folder/data

# ---------------------------------------------------------- functions for stages
jobs=() logs=()

# Programs run in the background, each in its own process group, so that stopping this
# script also stops them and their workers.
set -m
start() { # LOG COMMAND...
    local file=$1
    shift
    mkdir -p "$(dirname "$file")"
    "$@" >"$file" 2>&1 </dev/null &
    jobs+=("$!") logs+=("$file")
    if [ ${#jobs[@]} -ge "$nj" ]; then finish; fi
}

finish() {
    local n status bad=
    for n in ${jobs[@]+"${!jobs[@]}"}; do
        status=0
        wait "${jobs[n]}" || status=$?
        if [ $status -ne 0 ]; then bad=${bad:-${logs[n]}}; fi
    done
    jobs=() logs=()
    if [ -n "$bad" ]; then
        tail -n 20 "$bad" >&2
        echo "run.sh: error: this is the end of $bad" >&2
        exit 1
    fi
}

# Terminate all child processes on any exit.
cleanup() {
    local status=$? job
    trap - EXIT INT TERM
    for job in ${jobs[@]+"${jobs[@]}"} ${watcher:-}; do
        kill -TERM -- "-$job" 2>/dev/null || true
    done
    # Keeps the shell from reporting terminated jobs.
    wait 2>/dev/null
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

espnet() { "$python" -m sb_espnet_vq.run -m "espnet2.bin.$1" "${@:2}"; }

helper() { # NAME ARGUMENTS...: a script of this recipe, with visible output
    local status=0
    "$python" "$recipe/$1.py" "${@:2}" </dev/null &
    jobs=("$!")
    wait "$!" || status=$?
    jobs=()
    if [ $status -ne 0 ]; then exit $status; fi
}

decode() { # FOLDER BANDWIDTH OPTIONS...
    espnet gan_codec_inference --output_dir "$1" --train_config "$expdir/config.yaml" \
        --data_path_and_name_and_type "$data/test/wav.scp,audio,sound" \
        --target_bandwidth "$2" --seed "$seed" --num_workers 0 \
        --ngpu "$((ngpu > 0))" "${@:3}" && echo "$stamp" >"$1/stamp"
}

need() { # FILE STAGE
    [ -e "$1" ] || fail "$1 does not exist; run stage $2 first"
}

does() { # STAGE: whether to run it
    [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]
}

settings=$("$python" "$recipe/configure.py" "$config" "$expdir" --quantizer "$quantizer" \
    --quantizer_conf "$quantizer_conf" --bandwidths "$bandwidths" --data "$data") || exit 2
bandwidths=$(sed -n 's/^bandwidths //p' <<<"$settings")
seed=$(sed -n 's/^seed //p' <<<"$settings")

# The lock is held until this script and all its child processes have ended.
exec 9<>"$expdir/.lock"
"$python" -m sb_espnet_vq.utils.run_lock 9 "$expdir" || exit 2

if does 1; then
    log "stage 1: data"
    helper prepare_data --config "$expdir/train.yaml" --data "$data" \
        --data_folder "$data_folder" --manifest "$manifest" \
        --cache_folder "$cache_folder" --held_out $held_out \
        --join_seconds "$join_seconds" --peak "$peak" --nj "$nj"
fi
# Runs with other quantizers share these data and must not prepare them again now.
if [ -e "$data" ]; then
    exec 8<>"$output_folder/.data.lock"
    "$python" -m sb_espnet_vq.utils.run_lock 8 "$data" shared || exit 2
fi

if does 2; then
    log "stage 2: shapes"
    for part in train valid; do need "$data/$part/utt2num_samples" 1; done
    helper write_shapes "$expdir/train.yaml" "$data" "$expdir/shapes"
fi

if does 3; then
    log "stage 3: training; log: $expdir/train.log"
    for part in train valid; do need "$expdir/shapes/$part/audio_shape" 2; done
    if [ -e "$expdir/checkpoint.pth" ]; then
        "$python" -m zipfile -t "$expdir/checkpoint.pth" >/dev/null 2>&1 ||
            fail "$expdir/checkpoint.pth was cut short and cannot be read. Remove it to" \
                "train from the start, or from the weights of a saved epoch with" \
                "--train_args '--init_param $expdir/NUMBERepoch.pth'"
        log "resuming after the last complete epoch"
    fi
    options=()
    for part in train valid; do
        options+=(--${part}_data_path_and_name_and_type "$data/$part/wav.scp,audio,sound")
        options+=(--${part}_shape_file "$expdir/shapes/$part/audio_shape")
    done
    if [ "$ngpu" -gt 1 ]; then options+=(--multiprocessing_distributed true); fi
    read -r -a more <<<"$train_args"
    if [ -e "$expdir/train.log" ]; then
        mv "$expdir/train.log" "$expdir/train.$(date '+%Y%m%dT%H%M%S').log"
    fi
    touch "$expdir/train.log"
    # A subshell, so that both processes are in the group that is killed below.
    (tail -n 0 -F "$expdir/train.log" 2>/dev/null |
        grep --line-buffered -oE '[0-9]+/[0-9]+epoch started.*') 8>&- 9>&- &
    watcher=$!
    start "$expdir/train.log" espnet gan_codec_train \
        --config "$expdir/train.yaml" --output_dir "$expdir" --resume true \
        --ngpu "$ngpu" "${options[@]}" ${more[@]+"${more[@]}"}
    finish
    { kill -TERM -- "-$watcher" && wait "$watcher"; } 2>/dev/null || true
    watcher=
    # ESPnet then exits with status 0; only its log reports the failure.
    if grep -q "gradients at all steps are invalid" "$expdir/train.log"; then
        fail "no step of the last epoch had a finite gradient; see $expdir/train.log"
    fi
fi

if does 4; then
    log "stage 4: inference at $bandwidths kbit/s, trained and untrained"
    need "$data/test/wav.scp" 1
    need "$expdir/$inference_model" 3
    # The stamp of a decoded folder identifies the model and the speech; it is written
    # last, so that its folder is complete.
    stamp="$(cksum <"$expdir/$inference_model") $(cksum <"$data/made_from.json")"
    for state in trained untrained; do
        model=()
        # Without a model file ESPnet uses the initial weights.
        if [ $state = trained ]; then model=(--model_file "$expdir/$inference_model"); fi
        for bandwidth in $bandwidths; do
            decoded=$expdir/inference/$state/at_$bandwidth
            if [ "$(cat "$decoded/stamp" 2>/dev/null)" = "$stamp" ]; then continue; fi
            rm -rf "$decoded"
            start "$decoded/log" decode "$decoded" "$bandwidth" ${model[@]+"${model[@]}"}
        done
    done
    finish
fi

if does 5; then
    log "stage 5: scoring"
    for state in trained untrained; do
        for bandwidth in $bandwidths; do
            need "$expdir/inference/$state/at_$bandwidth/stamp" 4
        done
    done
    rm -rf "$expdir/score"
    helper list_pairs "$expdir/train.yaml" "$data/test" "$expdir/inference" \
        "$expdir/score" --bandwidths $bandwidths --nj "$nj"
    for job in "$expdir"/score/*/; do
        start "${job}log" espnet enh_scoring --output_dir "$job" \
            --ref_scp "${job}ref.scp" --inf_scp "${job}inf.scp" \
            --key_file "${job}ref.scp"
    done
    finish
    touch "$expdir/score/done"
fi

if does 6; then
    need "$expdir/score/done" 5
    helper report "$expdir" "$data/test"
fi
