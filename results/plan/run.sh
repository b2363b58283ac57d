# What configs/imagenet.py would make of TPU slices, by TPU's own compiler; no TPU is needed, hours are (a step
# of ResNet-50 with a teacher compiles for five minutes on two cores), and what was compiled is kept.
# Needs pip install .[plan].  bash results/plan/run.sh
set -eu
cd "$(dirname "$0")"
root=../..
plan() {  # name, config argument, topologies, more flags
  name=$1 argument=$2 topologies=$3
  shift 3
  python -m apprentice_jax plan --config="$root/configs/imagenet.py:$argument" --topology="$topologies" "$@" \
    --out="$name.json" > "$name.md"
}
export PYTHONPATH=$root

for scheme in A B; do
  plan "resnet18-$scheme" "student=resnet18,scheme=$scheme,precision=8A2W" v5e:2x4 --scaling
done
# To compare with: one network, and the two of scheme A trained apart.
plan full-precision "student=resnet50,scheme=baseline,precision=32A32W" v5e:2x4
plan student-apart "student=resnet50,scheme=baseline,precision=8A2W" v5e:2x4
plan teacher-apart "student=resnet101,scheme=baseline,precision=32A32W" v5e:2x4
for scheme in A B; do
  plan "resnet50-$scheme" "student=resnet50,scheme=$scheme,precision=8A2W" \
    v5e:2x4,v5e:16x16,v4:4x4x4,v6e:16x16 --scaling
done
python compare.py > compare.md

# A small network, 512 images a chip: what quantization costs.
for dtype in bfloat16 float32; do
  for precision in 32A32W 8A2W 8A4W; do
    name=resnet20-$precision-$dtype
    python -m apprentice_jax plan --config="$root/configs/cifar10.py:scheme=baseline,precision=$precision" \
      --config.batch_size=2048 --config.dtype=$dtype --topology=v5e:2x2 --out="$name.json" > "$name.md"
  done
done
python changes.py > changes.md
python quantizer_bytes.py quantizer-bytes.json > quantizer-bytes.md
