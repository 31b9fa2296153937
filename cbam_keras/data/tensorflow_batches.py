"""Batches of records or streams as a `tf.data.Dataset`."""

from typing import Any

import numpy as np

from cbam_keras.data.augmentation import (
    BatchLayers,
    Draw,
    tf_flip_and_crop,
)
from cbam_keras.data.decoding import (
    TRIES,
    as_bytes,
    tf_decode,
    tf_evaluation,
    tf_random_crop,
)
from cbam_keras.data.records import Records, Stream
from cbam_keras.data.sharding import BatchOptions, own_rows, plan_epoch

# Images in the shuffle buffer of a stream.
SHUFFLE_BUFFER = 10_000


class TensorFlowBatches:
    """The stages of a `tf.data.Dataset`, and what they share."""

    def __init__(
        self, tf: Any, records: Records | Stream, options: BatchOptions
    ):
        self.tf = tf
        self.options = options
        self.num_images = len(records)
        self.plan = plan_epoch(self.num_images, options)
        self.random_crop = "random_resized_crop" in options.augment
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.layers = None
        if options.whole_batch_augment:
            self.layers = BatchLayers(
                options.whole_batch_augment,
                lambda first, number: tf.stack([first, number]),
                lambda draw, first, second: tf.cond(draw < 0.5, first, second),
            )
        self.stream = records if isinstance(records, Stream) else None
        self.files = False
        self.encoded = True
        if isinstance(records, Records):
            self.encoded = not records.decoded
            images: Any = records.images
            if self.encoded:
                self.files = isinstance(images[0], str)
                images = as_bytes(images)
            self.tensors = [tf.constant(images), tf.constant(records.labels)]
            if records.boxes is not None:
                self.tensors.append(tf.constant(records.boxes))

    def dataset(self) -> Any:
        """Returns the dataset. Each iteration over it is the next epoch."""
        tf, size = self.tf, self.plan.read_size
        parallel = {"num_parallel_calls": tf.data.AUTOTUNE}
        # AutoGraph would find nothing to convert, and takes time.
        plain = tf.autograph.experimental.do_not_convert
        data = tf.data.Dataset.range(1).flat_map(plain(self.positions))
        if self.encoded or self.random_crop:
            data = data.map(plain(self.read_image), **parallel).batch(size)
            data = data.map(plain(self.finish_batch), **parallel)
        else:
            data = data.batch(size)
            data = data.map(plain(self.read_batch), **parallel)
        # `flat_map` does not know how many elements it gives.
        data = data.apply(
            tf.data.experimental.assert_cardinality(self.plan.num_batches)
        )
        return data.prefetch(tf.data.AUTOTUNE)

    # Stages, in the order in which they run.

    def positions(self, _):
        """Returns a dataset of an epoch: `(item, position, epoch)`.

        An item is the index of an image, or `(image, label)` of a stream.
        """
        tf, seed = self.tf, self.options.seed
        epoch = tf.constant(0, tf.int64)
        if seed is not None:
            # The next iteration is the next epoch unless `set_epoch` is called.
            epoch = self.epoch.assign_add(1) - 1
        if self.stream is not None:
            return self.stream_positions(epoch)
        indices = tf.range(self.num_images)
        if seed is not None:
            indices = tf.random.experimental.stateless_shuffle(
                indices, seed=[tf.constant(seed, tf.int64), epoch]
            )
        positions = tf.constant(self.plan.positions)
        indices = tf.gather(indices, positions % self.num_images)
        return tf.data.Dataset.from_tensor_slices(
            (indices, positions, tf.fill(tf.shape(positions), epoch))
        )

    def stream_positions(self, epoch):
        tf, total = self.tf, self.plan.total
        plain = tf.autograph.experimental.do_not_convert
        data = self.stream.make()
        if self.options.seed is not None:
            data = self.shuffled(data, epoch)
        if total > self.num_images:
            data = data.concatenate(data.take(total - self.num_images))
        data = data.enumerate().take(total)
        if len(self.plan.positions) < total:
            own = np.zeros(total, bool)
            own[self.plan.positions] = True
            own = tf.constant(own)
            data = data.filter(plain(lambda position, _: own[position]))
        return data.map(plain(lambda position, item: (item, position, epoch)))

    def shuffled(self, data, epoch):
        """Returns a stream in the order of an epoch.

        `Dataset.shuffle` would mix TensorFlow's global seed into this one.
        """
        experimental = self.tf.data.experimental
        variant = self.tf.raw_ops.ShuffleDataset(
            input_dataset=experimental.to_variant(data),
            buffer_size=SHUFFLE_BUFFER,
            # Two zeros would mean any seed.
            seed=self.options.seed + 1,
            seed2=epoch,
            output_types=[spec.dtype for spec in data.element_spec],
            output_shapes=[spec.shape for spec in data.element_spec],
            reshuffle_each_iteration=False,
        )
        return experimental.from_variant(variant, data.element_spec)

    def read_batch(self, indices, positions, epoch):
        parts = [self.tf.gather(tensor, indices) for tensor in self.tensors]
        return self.finish_batch(*parts, positions, epoch)

    def read_image(self, item, position, epoch):
        tf, options = self.tf, self.options
        if self.stream is not None:
            image, label = item
            others = [tf.cast(label, tf.int32)]
        else:
            image, *others = (tensor[item] for tensor in self.tensors)
            if self.files:
                image = tf.io.read_file(image)
        channels = options.channels if self.encoded else None
        if self.random_crop:
            draws = self.random(Draw.RANDOM_CROP, position, epoch, (TRIES, 4))
            image = tf_random_crop(tf, image, channels, options.size, draws)
        else:
            image = tf_decode(tf, image, channels)
            image = tf_evaluation(tf, image[None], options.size)[0]
        image.set_shape((*options.size, options.channels))
        return (image, *others, position, epoch)

    def finish_batch(self, images, labels, *others):
        tf, options = self.tf, self.options
        *others, positions, epoch = others
        if options.one_hot:
            labels = tf.one_hot(labels, options.one_hot)
        if options.augment:
            images, labels = self.augmented(images, labels, positions, epoch[0])
        images = tf.cast(images, tf.float32)
        if options.channels_first:
            images = tf.transpose(images, (0, 3, 1, 2))
        if self.plan.weighted:
            others.append(tf.cast(positions < self.num_images, tf.float32))
        return (images, labels, *others)

    def augmented(self, images, labels, positions, epoch):
        tf, options, size = self.tf, self.options, self.plan.batch_size
        # Drawn for the whole batch, so that each process uses its rows.
        number = positions[0] // size
        draws = self.random(Draw.FLIP_AND_CROP, number, epoch, (size, 3))
        draws = tf.gather(draws, positions % size)
        images = tf_flip_and_crop(tf, images, draws, options.augment)
        if self.layers is None:
            return images, labels
        seed, draw = tf.unstack(self.random(Draw.LAYERS, number, epoch, (2,)))
        seed = tf.cast(tf.cast(seed, tf.float64) * 2**31, tf.int64)
        images, labels = self.layers(
            tf.cast(images, tf.float32), labels, seed, draw
        )
        # Rounding in Keras' layers may pass the limits.
        images = tf.clip_by_value(images, 0.0, 255.0)
        images.set_shape((None, *options.size, options.channels))
        count = tf.shape(labels)[0]
        return tuple(
            own_rows(batch, count, options.shard) for batch in (images, labels)
        )

    def random(self, draw, number, epoch, shape):
        """Returns random numbers in [0, 1) for a batch or an image."""
        # Seed and epoch as one number: both fit, without overflow.
        key = self.tf.constant(self.options.seed, self.tf.int64) * 2**31 + epoch
        return self.tf.random.stateless_uniform(
            shape, seed=[key, number * 4 + int(draw)]
        )
