// Two neighbours along an axis of n_in numbers, and their weights. Each is a quotient of its own: 1 - far_weight would have the
// error of a number near 1 where the near weight is small, and fast math may turn a (1 - w) + b w into a + w (b - a).
struct Taps {
    uint near, far;
    float near_weight, far_weight;
};

// Target i samples (i + half_pixel/2) n_in / n_out - 1/2 = ((2i + half_pixel) n_in - n_out) / (2 n_out), clamped to the ends.
inline Taps taps(uint target, uint n_in, uint n_out, uint half_pixel)
{
    const int numerator = max(int((2 * target + half_pixel) * n_in) - int(n_out), 0);
    const uint near = min(uint(numerator) / (2 * n_out), n_in - 1);
    Taps result;
    result.near = near;
    result.far = min(near + 1, n_in - 1);
    const uint part = near + 1 == result.far ? uint(numerator) % (2 * n_out) : 0;
    result.near_weight = float(2 * n_out - part) / float(2 * n_out);
    result.far_weight = float(part) / float(2 * n_out);
    return result;
}
