use alloc::vec;
use alloc::vec::Vec;

use super::*;

const CAT: &[u8] = include_bytes!("../data/cat.png");
const ROCKET: &[u8] = include_bytes!("../data/rocket.jpg");

fn average(image: &Image) -> Vec<u64> {
    let pixels = (image.width * image.height) as u64;
    (0..image.channels)
        .map(|channel| {
            let samples = image.samples.iter().skip(channel).step_by(image.channels);
            samples.map(|sample| u64::from(*sample)).sum::<u64>() / pixels
        })
        .collect()
}

#[test]
fn real_images_become_small_ones_of_the_same_colour() {
    for (file, before, after) in [(CAT, (451, 300), (128, 85)), (ROCKET, (640, 427), (128, 85))] {
        let made = thumbnail(file, 128).expect("is an image");
        assert_eq!((made.before, made.after), (before, after));
        let (large, small) = (
            decode(file).expect("is an image"),
            decode(&made.png).expect("is a PNG"),
        );
        for (old, new) in average(&large).into_iter().zip(average(&small)) {
            assert!(old.abs_diff(new) <= 1, "{old} became {new}");
        }
        assert!(made.png.len() < 40_000, "{} bytes", made.png.len());
    }
}

#[test]
fn every_kind_of_pixel_survives_encoding() {
    for channels in 1..=4 {
        for (width, height) in [(1, 1), (7, 3), (64, 64)] {
            let samples = (0..width * height * channels)
                .map(|at| (at * at % 251) as u8)
                .collect();
            let image = Image {
                width,
                height,
                channels,
                samples,
            };
            assert_eq!(decode(&encode(&image)), Ok(image));
        }
    }
}

#[test]
fn new_pixels_are_averages_of_what_they_cover() {
    let image = Image {
        width: 5,
        height: 1,
        channels: 1,
        samples: vec![10, 20, 30, 40, 50],
    };
    // (10 + 20 + 30/2) / 2.5 and (30/2 + 40 + 50) / 2.5
    assert_eq!(shrink(&image, 2).samples, [18, 42]);
    assert_eq!(shrink(&image, 5), image);
    assert_eq!(shrink(&image, 100), image, "never enlarges");
}

#[test]
fn what_cannot_be_seen_has_no_colour() {
    let image = Image {
        width: 2,
        height: 1,
        channels: 4,
        samples: vec![255, 0, 0, 255, 0, 255, 0, 0],
    };
    assert_eq!(shrink(&image, 1).samples, [255, 0, 0, 128]);
}

#[test]
fn thin_images_keep_at_least_one_pixel() {
    let image = Image {
        width: 1000,
        height: 1,
        channels: 1,
        samples: vec![9; 1000],
    };
    let small = shrink(&image, 10);
    assert_eq!((small.width, small.height), (10, 1));
}

#[test]
fn files_that_are_no_images_are_refused() {
    assert_eq!(thumbnail(b"GIF89a", 10), Err(ThumbnailError::UnknownFormat));
    assert_eq!(thumbnail(b"", 10), Err(ThumbnailError::UnknownFormat));
    assert!(matches!(thumbnail(&CAT[..5000], 10), Err(ThumbnailError::Png(_))));
    assert!(matches!(
        thumbnail(&ROCKET[..50], 10),
        Err(ThumbnailError::Jpeg(_))
    ));
}

#[test]
fn damaged_files_never_panic() {
    for file in [CAT, ROCKET] {
        for step in 0..200 {
            let mut broken = file[..file.len().min(60_000)].to_vec();
            let at = step * 7919 % 4096;
            broken[at] ^= 1 << (step % 8);
            let _ = thumbnail(&broken, 16);
        }
    }
}
