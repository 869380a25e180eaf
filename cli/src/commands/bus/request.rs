//! `request`: a question, and the data of its answer.

use crate::args::RequestArgs;
use crate::commands::Setup;
use crate::exit::{CommandResult, Exit, Failure};
use crate::host::{self, CLIENT};

/// Asks, and prints the answer's data.
pub async fn request(setup: &Setup<'_>, args: RequestArgs) -> CommandResult {
    super::refuse_url()?;
    let data = super::read_data(args.json.as_deref())?;
    let host = host::start(setup, setup.config.clone()).await?;
    let client = host.client(CLIENT);
    let answer = async {
        let message = super::message(&client, &data, None)?;
        let asked = client.request(args.topic.as_str(), message, args.timeout).await;
        asked.map_err(Failure::surroundings)
    }
    .await;
    host::shut_down(setup.output, host).await;
    let answer = answer?;
    let text = String::from_utf8_lossy(answer.data_bytes());
    setup.output.result(format_args!("{text}\n")).map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}
