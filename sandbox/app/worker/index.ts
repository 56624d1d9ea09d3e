/** The release that is deployed once every migration is in effect. */
import * as tables from "../src/schema";
import { application } from "./application";

export default application(tables);
