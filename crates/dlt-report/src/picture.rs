//! Makes a PNG of an SVG document. It is rasterised here, with a font that is part of the program,
//! so the bytes are the same on any machine.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

/// Pixels of the picture for each pixel of the document, across and down.
pub const SCALE: u32 = 2;

/// Largest document that is rasterised, in bytes. Each of its elements takes some kilobytes of
/// memory meanwhile, so such a document takes about a gigabyte.
const MOST_SVG_BYTES: usize = 16 << 20;

/// Largest number of pixels of a picture, of four bytes each.
const MOST_PIXELS: u64 = 64 << 20;

const FAMILY: &str = "DejaVu Sans";

static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.load_font_data(dejavu::sans::bold().to_vec());
    fonts.set_sans_serif_family(FAMILY);
    Arc::new(fonts)
});

/// The picture of a document, as a PNG of [`SCALE`] times its width and height.
///
/// # Errors
/// A text that says what is wrong with the document.
pub fn png(svg: &str) -> Result<Vec<u8>, String> {
    if svg.len() > MOST_SVG_BYTES {
        return Err(format!(
            "expected a document of at most {MOST_SVG_BYTES} bytes, got {}",
            svg.len()
        ));
    }

    let options =
        Options { font_family: FAMILY.to_owned(), fontdb: FONTS.clone(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let size = tree.size().to_int_size();
    let [width, height] = [size.width(), size.height()].map(|pixels| pixels.saturating_mul(SCALE));

    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(format!("expected at most {MOST_PIXELS} pixels, got {width} x {height}"));
    }

    let mut pixels = Pixmap::new(width, height)
        .ok_or_else(|| format!("a picture of {width} x {height} pixels"))?;
    let scale = SCALE as f32;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());

    pixels.encode_png().map_err(|error| error.to_string())
}
