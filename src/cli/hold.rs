//! `hold` and `undelete`.

use super::args::{Hold, Undelete};
use super::context::{Context, Need};
use super::error::CliError;
use crate::archive::gc::undelete::undelete as bring_back;
use crate::exit::Exit;
use serde_json::json;

pub(super) async fn run(context: &Context, args: Hold) -> Result<Exit, CliError> {
    let repository = context.repository(Need::Writer, "hold").await?;
    let (name, changed) = if args.release {
        let name = repository.resolve_held(&args.manifest).await?;
        let changed = repository.release(&name).await?;
        context.console.say(&format!("{name} {}", if changed { "is not held any more" } else { "was not held" }));
        (name, changed)
    } else {
        let name = repository.resolve(&args.manifest).await?;
        let changed = repository.hold(&name, &args.reason.unwrap_or_default()).await?;
        context.console.say(&format!("{name} {}", if changed { "is held" } else { "was held already" }));
        (name, changed)
    };
    if context.console.is_json() {
        let object = json!({"type": "hold", "manifest": name.to_string(), "held": !args.release, "changed": changed});
        context.console.object(&object)?;
    }
    Ok(Exit::Done)
}

pub(super) async fn undelete(context: &Context, args: Undelete) -> Result<Exit, CliError> {
    let repository = context.repository(Need::Writer, "undelete").await?;
    let copy = repository.resolve_trash(&args.manifest).await?;
    let manifest = bring_back(&repository, &copy).await?;
    if args.hold {
        repository.hold(&manifest.name, "").await?;
    }
    let name = &manifest.name;
    if context.console.is_json() {
        let (name, trash) = (name.to_string(), copy.name.to_string());
        context.console.object(&json!({"type": "undelete", "manifest": name, "trash": trash, "held": args.hold}))?;
    } else if args.hold {
        context.console.say(&format!("{name} is back, and held"));
    } else {
        context.console.say(&format!("{name} is back; to keep it longer than a day: hah-vault hold {name}"));
    }
    Ok(Exit::Done)
}
