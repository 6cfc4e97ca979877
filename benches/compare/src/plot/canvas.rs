//! A sheet to draw on, in pixels; colours and letters.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{
    coord::Shift,
    element::DashedPathElement,
    prelude::{Circle, DrawingArea, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle, SVGBackend, Text},
    style::{
        Color, FontStyle, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

pub const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
pub const FAINT_INK: RGBColor = RGBColor(0x5f, 0x66, 0x6e);
pub const GRID: RGBColor = RGBColor(0xe3, 0xe6, 0xe9);
/// Ours, wherever it stands. Of the palette of Okabe and Ito, which the colour-blind can tell apart, like the others.
pub const OURS: RGBColor = RGBColor(0x00, 0x72, 0xb2);

/// Where a text is, seen from its point.
#[derive(Clone, Copy)]
pub enum Anchor {
    /// It begins there.
    Left,
    /// It is in the middle of it.
    Middle,
    /// It ends there.
    Right,
}

/// How a line is drawn.
#[derive(Clone, Copy)]
pub struct Stroke {
    pub color: RGBColor,
    pub width: u32,
    pub dashed: bool,
}

/// A white sheet.
pub struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

pub type Point = (i32, i32);

impl<'a> Canvas<'a> {
    pub fn new(path: &'a Path, size: (u32, u32)) -> Result<Self> {
        let area = SVGBackend::new(path, size).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        Ok(Self { area })
    }

    pub fn line(&self, points: &[Point], stroke: Stroke) -> Result<()> {
        let style = stroke.color.stroke_width(stroke.width);
        if stroke.dashed {
            self.area.draw(&DashedPathElement::new(points.to_vec(), 7, 4, style)).map_err(failed)
        } else {
            self.area.draw(&PathElement::new(points.to_vec(), style)).map_err(failed)
        }
    }

    pub fn dot(&self, at: Point, radius: i32, color: RGBColor) -> Result<()> {
        self.area.draw(&Circle::new(at, radius, color.filled())).map_err(failed)
    }

    pub fn bar(&self, from: Point, to: Point, color: RGBColor) -> Result<()> {
        self.area.draw(&Rectangle::new([from, to], color.filled())).map_err(failed)
    }

    pub fn text(&self, at: Point, text: &str, letters: Letters) -> Result<()> {
        let horizontal = match letters.anchor {
            Anchor::Left => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::Right => HPos::Right,
        };
        let weight = if letters.bold { FontStyle::Bold } else { FontStyle::Normal };
        // plotters writes four fifths of the size that it is given.
        let font = ("sans-serif", f64::from(letters.size) * 1.24).into_font().style(weight);
        let style = font.color(&letters.color).pos(Pos::new(horizontal, VPos::Center));
        self.area.draw(&Text::new(text.to_owned(), at, style)).map_err(failed)
    }

    pub fn finish(self) -> Result<()> {
        self.area.present().map_err(failed)
    }
}

/// How a text is written.
#[derive(Clone, Copy)]
pub struct Letters {
    /// Pixels.
    pub size: u32,
    pub color: RGBColor,
    pub anchor: Anchor,
    pub bold: bool,
}

impl Letters {
    pub fn new(size: u32, color: RGBColor, anchor: Anchor) -> Self {
        Self { size, color, anchor, bold: false }
    }

    pub fn bold(mut self, bold: bool) -> Self {
        self.bold = bold;
        self
    }
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the picture cannot be drawn: {error}")
}
