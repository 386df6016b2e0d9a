// Starts the page: the connection first, then the views, so that the connection does not depend on them.
import { render } from "preact";
import "./app/style.css";
import { App } from "./app/app";
import { bodyStates } from "./app/body_states";
import { startTheme } from "./app/theme";
import { TopBar } from "./app/top_bar";
import { start } from "./state/app";
import "./system/rates";

startTheme();
start();
bodyStates();
render(<TopBar />, document.getElementById("top")!);
render(<App />, document.getElementById("page")!);
document.body.dataset["page"] = "started";
