//! The plots of a run as figures of the page (wide and narrow SVG) and as files (SVG and PNG).

use std::fs;
use std::path::Path;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ColorType, ImageEncoder as _};

use super::error::ReportError;
use super::load::{Run, name};
use super::plot::{
    self, Availability, Codes, Plot, Resources, Thumbnail, TimelinePlot, bitmap, svg,
};
use super::write_file;
use crate::figures::{Figures, Resource, ResourceSeries, resources};

/// Widths in CSS pixels: of a desktop page, and of a telephone.
pub(super) const WIDE: f64 = 1000.0;
pub(super) const NARROW: f64 = 380.0;
const THUMBNAIL: f64 = 300.0;

/// One plot in all its forms.
#[derive(Debug)]
pub(super) struct Figure {
    /// File name without extension, and id in the page.
    pub(super) id: String,
    /// For a desktop page.
    pub(super) wide: String,
    /// For a telephone.
    pub(super) narrow: String,
    png: (u32, u32, Vec<u8>),
}

/// Places of the time line's frames for the page's script, wide and narrow.
pub(super) type Geometries = [plot::Geometry; 2];

/// All plots of a run.
#[derive(Debug)]
pub(super) struct Plots {
    pub(super) timeline: Figure,
    pub(super) geometry: Geometries,
    /// First and last second of the time axis.
    pub(super) span: (f64, f64),
    pub(super) by_class: Figure,
    pub(super) by_outcome: Figure,
    pub(super) codes: Figure,
    pub(super) availability: Figure,
    pub(super) resources: Figure,
    /// What the last one shows, for its table.
    pub(super) series: Vec<(Resource, Vec<ResourceSeries>)>,
    thumbnail: String,
}

fn figure(id: &str, plot: &impl Plot) -> Result<Figure, ReportError> {
    let id = id.to_owned();
    Ok(Figure { id, wide: svg(plot, WIDE)?, narrow: svg(plot, NARROW)?, png: bitmap(plot, WIDE)? })
}

impl Plots {
    /// Draws them.
    pub(super) fn draw(run: &Run, figures: &Figures) -> Result<Self, ReportError> {
        let axis = plot::time_axis(figures, &run.phases);
        let timeline = &figures.timeline;
        let origin = timeline.origin;
        let line = TimelinePlot { timeline, axis: &axis };
        let series: Vec<_> = Resource::ALL
            .into_iter()
            .map(|resource| (resource, resources(&run.samples, resource)))
            .collect();
        let availability = Availability {
            nodes: &figures.nodes,
            samples: &run.samples,
            axis: &axis,
            origin,
            slot: timeline.slot,
        };
        Ok(Self {
            timeline: figure("timeline", &line)?,
            span: (axis.from, axis.to),
            geometry: [line.geometry(WIDE), line.geometry(NARROW)],
            by_class: figure("percentiles-by-class", &plot::by_class(figures))?,
            by_outcome: figure("percentiles-by-outcome", &plot::by_outcome(figures))?,
            codes: figure("codes", &Codes { timeline, axis: &axis })?,
            availability: figure("availability", &availability)?,
            resources: figure(
                "resources",
                &Resources { series: series.clone(), axis: &axis, origin },
            )?,
            series,
            thumbnail: svg(&Thumbnail { timeline, axis: &axis }, THUMBNAIL)?,
        })
    }

    fn all(&self) -> [&Figure; 6] {
        [
            &self.timeline,
            &self.by_class,
            &self.by_outcome,
            &self.codes,
            &self.availability,
            &self.resources,
        ]
    }

    /// Writes `NAME.svg` and `NAME.png` each, and `thumbnail.svg`.
    pub(super) fn write(&self, folder: &Path) -> Result<(), ReportError> {
        fs::create_dir_all(folder)
            .map_err(|source| ReportError::Io { file: name(folder), source })?;
        for figure in self.all() {
            let id = &figure.id;
            write_file(&folder.join(format!("{id}.svg")), figure.wide.as_bytes())?;
            write_png(&folder.join(format!("{id}.png")), &figure.png)?;
        }
        write_file(&folder.join("thumbnail.svg"), self.thumbnail.as_bytes())
    }
}

/// An SVG file as an element of a page: no file header, and a name for those who can't see it.
pub(super) fn inline(svg: &str, label: &str) -> String {
    let Some((head, body)) = svg.split_once('>') else {
        return String::new();
    };
    let view = head.split_once("viewBox=\"").and_then(|(_, rest)| rest.split_once('"'));
    let view = view.map_or("0 0 1 1", |(view, _)| view);
    let label = label.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    format!("<svg viewBox=\"{view}\" role=\"img\" aria-label=\"{label}\">{body}")
}

/// Writes pixels as PNG. Plots are flat, so rows repeat: without a filter they compress best, and
/// with a real search for repetitions to a fiftieth of what the fastest one leaves.
fn write_png(path: &Path, (width, height, bytes): &(u32, u32, Vec<u8>)) -> Result<(), ReportError> {
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Default, FilterType::NoFilter)
        .write_image(bytes, *width, *height, ColorType::Rgb8)
        .map_err(|source| ReportError::Png { file: name(path), source })?;
    write_file(path, &png)
}

/// Draws a plot for the index: wide, narrow, and pixels.
pub(super) fn index_figure(id: &str, plot: &impl Plot) -> Result<Figure, ReportError> {
    figure(id, plot)
}

impl Figure {
    /// Writes the plot beside an index.
    pub(super) fn write(&self, folder: &Path) -> Result<(), ReportError> {
        write_file(&folder.join(format!("{}.svg", self.id)), self.wide.as_bytes())?;
        write_png(&folder.join(format!("{}.png", self.id)), &self.png)
    }
}
