# Imagenette's photos (10 classes of ImageNet, 2,000 + 500, 224x224) through the streaming path, on two CPU
# cores. $DATA holds train/CLASS/*.JPEG and val/CLASS/*.JPEG; $WORKDIR gets the runs.
set -eu
photos="--config.data.dir=$DATA"

# One epoch of ResNet-18, 8A,2W, at 224.
apprentice train --config=configs/image_folder.py:scheme=baseline $photos --config.batch_size=32 \
  --config.recipe.student.epochs=1.0 --config.recipe.student.warmup_epochs=0.2 \
  --config.recipe.student.learning_rate=0.01 --config.steps_per_dispatch=2 --workdir="$WORKDIR/one_epoch"

# Scheme A at 32 pixels, one epoch, killed ten times.
python tests/kill_and_resume.py --kills=10 --out="$WORKDIR/killed" -- \
  train --config=configs/image_folder.py:scheme=A,width=0.125,runlocal $photos \
  --config.checkpoint.every_epochs=0.1 --config.checkpoint.keep=3

# 120,000 images: the memory of the process.
apprentice train --config=configs/image_folder.py:scheme=baseline,width=0.125,runlocal $photos \
  --config.recipe.student.epochs=60.0 --config.steps_per_dispatch=25 \
  --config.checkpoint.every_epochs=10.0 --workdir="$WORKDIR/memory"
