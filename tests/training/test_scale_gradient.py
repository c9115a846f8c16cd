import pytest
import tensorflow as tf

from tf_mtl_privacy.training.steps import scale_gradient


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, -2.0])
def test_identity_forward_and_scaled_backward(scale):
    x = tf.constant([1.0, -2.0, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = scale_gradient(x, scale)
        loss = tf.reduce_sum(y**2)
    assert tf.reduce_all(y == x)
    # d/dx sum x^2 = 2x, times the scale.
    assert tape.gradient(loss, x).numpy() == pytest.approx([2 * scale, -4 * scale, 6 * scale])


def test_the_scale_may_be_a_tensor_inside_a_function():
    @tf.function
    def gradient(x, scale):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(scale_gradient(x, scale))
        return tape.gradient(loss, x)

    assert gradient(tf.zeros(2), tf.constant(0.25)).numpy() == pytest.approx([0.25, 0.25])
