// Two neighbours along an axis of n_in numbers, and the weight of the second.
struct Taps {
    uint near, far;
    float weight;
};

// Target i samples (i + half_pixel/2) n_in / n_out - 1/2 = ((2i + half_pixel) n_in - n_out) / (2 n_out), clamped to the ends.
inline Taps taps(uint target, uint n_in, uint n_out, uint half_pixel)
{
    const int numerator = max(int((2 * target + half_pixel) * n_in) - int(n_out), 0);
    const uint near = min(uint(numerator) / (2 * n_out), n_in - 1);
    Taps result;
    result.near = near;
    result.far = min(near + 1, n_in - 1);
    result.weight = near + 1 == result.far ? float(uint(numerator) % (2 * n_out)) / float(2 * n_out) : 0.0f;
    return result;
}
