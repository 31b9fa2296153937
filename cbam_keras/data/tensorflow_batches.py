"""Batches of records as a `tf.data.Dataset`."""

from typing import Any

import numpy as np

from cbam_keras.data.augmentation import (
    FOR_BOX,
    FOR_LAYERS,
    FOR_PIXELS,
    BatchLayers,
    TensorMaths,
    change_pixels,
)
from cbam_keras.data.decoding import (
    TRIES,
    as_bytes,
    tf_decode,
    tf_evaluation,
    tf_random_crop,
)
from cbam_keras.data.plan import Plan, part_of, share
from cbam_keras.data.records import Records, Stream

# Images of a stream that wait for their turn: what is shuffled at a time.
SHUFFLED = 10_000


class TensorBatches:
    """What the stages of a `tf.data.Dataset` share.

    The image at position p of an epoch, and what is drawn for it, follow from
    the seed, the epoch and p alone.
    """

    def __init__(self, tf: Any, records: Records | Stream, plan: Plan):
        self.tf = tf
        self.plan = plan
        self.count = len(records)
        self.share = share(self.count, plan)
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.layers = None
        if plan.of_batches:
            self.layers = BatchLayers(
                plan.of_batches,
                lambda first, number: tf.stack([first, number]),
                lambda draw, first, second: tf.cond(draw < 0.5, first, second),
            )
        self.random_box = "random_resized_crop" in plan.augment
        self.stream = self.files = None
        self.encoded = True
        if isinstance(records, Stream):
            self.stream = records
            return
        self.encoded = not records.decoded
        kept: Any = records.images
        if self.encoded:
            self.files = isinstance(kept[0], str)
            kept = as_bytes(kept)
        self.tensors = [tf.constant(kept), tf.constant(records.labels)]
        if records.boxes is not None:
            self.tensors.append(tf.constant(records.boxes))

    def dataset(self) -> Any:
        tf = self.tf
        whole = self.layers is not None
        size = self.share.whole if whole else self.share.own
        parallel = {"num_parallel_calls": tf.data.AUTOTUNE}
        # There is nothing that would have to be rewritten into a graph.
        plain = tf.autograph.experimental.do_not_convert
        data = tf.data.Dataset.range(1).flat_map(plain(self.begin))
        if self.encoded or self.random_box:
            data = data.map(plain(self.read_one), **parallel).batch(size)
            data = data.map(plain(self.finish), **parallel)
        else:
            data = data.batch(size)
            data = data.map(plain(self.read_batch), **parallel)
        # What comes out of an epoch has no known length by itself.
        data = data.apply(
            tf.data.experimental.assert_cardinality(self.share.steps)
        )
        return data.prefetch(tf.data.AUTOTUNE)

    def begin(self, _):
        """Returns an epoch: items, positions and the number of the epoch."""
        tf, seed = self.tf, self.plan.seed
        epoch = tf.constant(0, tf.int64)
        if seed is not None:
            # Counts by itself when nobody calls `set_epoch`.
            epoch = self.epoch.assign_add(1) - 1
        if self.stream is not None:
            return self.begin_stream(epoch)
        indices = tf.range(self.count)
        if seed is not None:
            indices = tf.random.experimental.stateless_shuffle(
                indices, seed=[tf.constant(seed, tf.int64), epoch]
            )
        positions = tf.constant(self.share.positions)
        chosen = tf.gather(indices, positions % self.count)
        return tf.data.Dataset.from_tensor_slices(
            (chosen, positions, tf.fill(tf.shape(positions), epoch))
        )

    def begin_stream(self, epoch):
        tf, total = self.tf, self.share.total
        plain = tf.autograph.experimental.do_not_convert
        data = self.stream.make()
        if self.plan.seed is not None:
            data = self.shuffled(data, epoch)
        if total > self.count:
            data = data.concatenate(data.take(total - self.count))
        data = data.enumerate().take(total)
        if len(self.share.positions) < total:
            mine = np.zeros(total, bool)
            mine[self.share.positions] = True
            mine = tf.constant(mine)
            data = data.filter(plain(lambda position, _: mine[position]))
        return data.map(plain(lambda position, item: (item, position, epoch)))

    def shuffled(self, data, epoch):
        """Returns a stream in the order of an epoch.

        `Dataset.shuffle` would mix TensorFlow's global seed into this one.
        """
        experimental = self.tf.data.experimental
        shapes = [spec.shape for spec in data.element_spec]
        variant = self.tf.raw_ops.ShuffleDataset(
            input_dataset=experimental.to_variant(data),
            buffer_size=SHUFFLED,
            # Two zeros would stand for any seed.
            seed=self.plan.seed + 1,
            seed2=epoch,
            output_types=[spec.dtype for spec in data.element_spec],
            output_shapes=shapes,
            reshuffle_each_iteration=False,
        )
        return experimental.from_variant(variant, data.element_spec)

    def key(self, epoch):
        # One number for seed and epoch: both fit, without overflow.
        return self.tf.constant(self.plan.seed, self.tf.int64) * 2**31 + epoch

    def draws(self, what, number, epoch, shape):
        return self.tf.random.stateless_uniform(
            shape, seed=[self.key(epoch), number * 4 + what]
        )

    def read_batch(self, chosen, positions, epoch):
        parts = [self.tf.gather(tensor, chosen) for tensor in self.tensors]
        return self.finish(*parts, positions, epoch)

    def read_one(self, chosen, position, epoch):
        tf, plan = self.tf, self.plan
        if self.stream is not None:
            image, label = chosen
            others = [tf.cast(label, tf.int32)]
        else:
            image, *others = (tensor[chosen] for tensor in self.tensors)
            if self.files:
                image = tf.io.read_file(image)
        channels = plan.channels if self.encoded else None
        if self.random_box:
            draws = self.draws(FOR_BOX, position, epoch, (TRIES, 4))
            image = tf_random_crop(tf, image, channels, plan.size, draws)
        else:
            image = tf_decode(tf, image, channels)
            image = tf_evaluation(tf, image[None], plan.size)[0]
        image.set_shape((*plan.size, plan.channels))
        return (image, *others, position, epoch)

    def finish(self, images, labels, *others):
        tf, plan = self.tf, self.plan
        *others, positions, epoch = others
        if plan.one_hot:
            labels = tf.one_hot(labels, plan.one_hot)
        if plan.augment:
            images, labels = self.augmented(images, labels, positions, epoch[0])
        images = tf.cast(images, tf.float32)
        if plan.channels_first:
            images = tf.transpose(images, (0, 3, 1, 2))
        if self.share.weighted:
            others.append(tf.cast(positions < self.count, tf.float32))
        return (images, labels, *others)

    def augmented(self, images, labels, positions, epoch):
        tf, plan, whole = self.tf, self.plan, self.share.whole
        number = positions[0] // whole
        draws = self.draws(FOR_PIXELS, number, epoch, (whole, 3))
        images = change_pixels(
            TensorMaths(tf),
            images,
            tf.gather(draws, positions % whole),
            plan.augment,
        )
        if self.layers is None:
            return images, labels
        first, draw = tf.unstack(self.draws(FOR_LAYERS, number, epoch, (2,)))
        first = tf.cast(tf.cast(first, tf.float64) * 2**31, tf.int64)
        images, labels = self.layers(
            tf.cast(images, tf.float32), labels, first, draw
        )
        # Rounding may pass the highest level.
        images = tf.clip_by_value(images, 0.0, 255.0)
        images.set_shape((None, *plan.size, plan.channels))
        size = tf.shape(labels)[0]
        return part_of(images, size, plan), part_of(labels, size, plan)
