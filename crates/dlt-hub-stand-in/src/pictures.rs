//! Small pictures.

/// A PNG of 8-bit RGB pixels, row by row, width x height x 3 bytes.
#[must_use]
pub fn png(width: u32, height: u32, rgb: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);

    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(rgb).unwrap();
    writer.finish().unwrap();

    bytes
}

/// A record of CIFAR-10's binary files: the label, then all red, all green and all blue bytes of 32
/// x 32 pixels.
#[must_use]
pub fn cifar_record(label: u8, rgb: &[u8]) -> Vec<u8> {
    let channel = |offset: usize| rgb.iter().skip(offset).step_by(3).copied();
    [label].into_iter().chain(channel(0)).chain(channel(1)).chain(channel(2)).collect()
}
